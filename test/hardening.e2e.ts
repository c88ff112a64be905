import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { WebSocket } from 'ws';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const PER_TOKEN = 5;
const PER_IP = 12;

describe('HTTP', () => {
  let database: TestDatabase;
  let service: Service;
  let limited: Service;

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({
      DATABASE_URL: database.url,
      CORS_ORIGINS: 'https://ward.example',
      HTTP_REQUEST_TIMEOUT: '3s',
      DATABASE_TIMEOUT: '1s',
    });
    limited = await Service.start({
      DATABASE_URL: database.url,
      RATE_LIMIT_PER_IP: String(PER_IP),
      RATE_LIMIT_PER_TOKEN: String(PER_TOKEN),
      TRUST_PROXY: 'loopback',
    });
  });
  afterAll(async () => {
    await Promise.all([service.remove(), limited.remove()]);
    await database.drop();
  });

  it.each(['/docs', '/redoc', '/devices', '/nowhere'])('sends security headers with %s', async (path) => {
    const { headers } = await service.get(path);
    const policy = headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'self'");
    expect(policy).toContain("script-src 'self';");
    expect(policy).toContain("frame-ancestors 'none'");
    // It would have browsers ask for HTTPS where there is none.
    expect(policy).not.toContain('upgrade-insecure-requests');
    expect(headers.get('strict-transport-security')).toBeNull();
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('x-powered-by')).toBeNull();
  });

  it('keeps what needs a token out of caches', async () => {
    expect((await service.read('/devices')).headers.get('cache-control')).toBe('no-store');
  });

  it('serves pages that neither run inline scripts nor ask anybody else', async () => {
    for (const page of ['/docs', '/redoc']) {
      const { text } = await service.get(page);
      const scripts = [...text.matchAll(/<script([^>]*)>([\s\S]*?)<\/script>/g)];
      expect(scripts.length).toBeGreaterThan(0);
      for (const [, attributes = '', inline = ''] of scripts) {
        expect(attributes).toContain('src=');
        expect(inline.trim()).toBe('');
      }
    }
    expect((await service.get('/redoc/redoc.standalone.js')).text).not.toContain('cdn.redoc.ly');
  });

  it('tells pages of the configured origins, and of no others, that they may ask', async () => {
    const preflight = async (origin: string): Promise<Headers> => {
      const headers = {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type',
      };
      return (
        await fetch(`http://127.0.0.1:${service.port}/devices/register`, { method: 'OPTIONS', headers })
      ).headers;
    };
    const known = await preflight('https://ward.example');
    expect(known.get('access-control-allow-origin')).toBe('https://ward.example');
    expect(known.get('access-control-allow-headers')).toContain('Authorization');
    expect((await preflight('https://evil.example')).get('access-control-allow-origin')).toBeNull();
    const answer = await service.read('/devices', { origin: 'https://ward.example' });
    expect(answer.headers.get('access-control-allow-origin')).toBe('https://ward.example');
    const closed = await limited.get('/docs', { origin: 'https://ward.example' });
    expect(closed.headers.get('access-control-allow-origin')).toBeNull();
  });

  it.each([
    ['DELETE', '/devices', 'GET, HEAD'],
    ['PUT', '/devices/register', 'GET, HEAD, POST'],
    ['GET', '/devices/a/command', 'POST'],
    ['POST', '/health', 'GET, HEAD'],
    ['POST', '/redoc', 'GET, HEAD'],
  ])('answers %s %s with 405 and what is allowed', async (method, path, allow) => {
    const response = await fetch(`http://127.0.0.1:${service.port}${path}`, { method });
    expect(response.status).toBe(405);
    for (const name of allow.split(', ')) expect(response.headers.get('allow')?.split(', ')).toContain(name);
    expect(await response.json()).toMatchObject({ status: 405, code: 'method_not_allowed', instance: path });
  });

  /** What the service answers to these bytes, until it closes the connection. */
  const raw = async (...parts: readonly string[]): Promise<{ answer: string; seconds: number }> => {
    const socket = connect(service.port, '127.0.0.1').on('error', () => undefined);
    const begun = performance.now();
    let answer = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      answer += text;
    });
    for (const part of parts) socket.write(part);
    // One byte now and then, as whoever wants to keep the connection for ever would send.
    const drip = setInterval(() => socket.write('x'), 200);
    await once(socket, 'close');
    clearInterval(drip);
    return { answer, seconds: (performance.now() - begun) / 1_000 };
  };

  it.each([
    [
      'an address of 20 kB',
      `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
      431,
      'headers_too_large',
    ],
    ['what is no HTTP', 'HELO ward.example\r\n\r\n', 400, 'bad_request'],
  ])('answers %s with a problem', async (_what, request, status, code) => {
    const { answer } = await raw(request);
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    expect(head).toContain(`HTTP/1.1 ${status} `);
    expect(head).toContain('application/problem+json');
    expect(JSON.parse(body)).toMatchObject({ status, code });
  });

  it.each([
    [
      'HTTP/2',
      '/devices',
      'Upgrade, HTTP2-Settings, close',
      'h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA',
      401,
    ],
    ['TLS', '/health', 'close, upgrade', 'TLS/1.0', 200],
    ['a WebSocket elsewhere', '/health/live?x=/ws/mqtt', 'Upgrade, close', 'websocket', 200],
    ['a WebSocket where nothing is', '/nowhere', 'Upgrade, close', 'websocket', 404],
    ['something else where the WebSocket is', '/ws/mqtt', 'Upgrade, close', 'h2c', 404],
  ])(
    'answers whoever would rather speak %s as if they did not',
    async (_what, path, connection, upgrade, status) => {
      const { answer } = await raw(
        `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: ${connection}\r\nUpgrade: ${upgrade}\r\n\r\n`,
      );
      expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    },
  );

  it('takes the body of such a request, and the request that follows it', async () => {
    const body = JSON.stringify({ device_id: 'by_upgrade', type: 'weight_scale', patient_id: 1 });
    const { answer } = await raw(
      `POST /devices/register HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n` +
        `Authorization: Bearer ${await service.token()}\r\nContent-Type: application/json\r\n` +
        `Content-Length: ${body.length}\r\n\r\n${body.slice(0, 10)}`,
      `${body.slice(10)}GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    );
    expect(answer.match(/HTTP\/1\.1 \d+ /g)).toEqual(['HTTP/1.1 201 ', 'HTTP/1.1 200 ']);
  });

  it.each([
    ['headers', 'GET /devices HTTP/1.1\r\nHost: x\r\nX-Slow: ', 1],
    [
      'a body',
      'POST /devices/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{',
      3,
    ],
  ])('ends a connection that drips %s', async (_what, request, after) => {
    const { answer, seconds } = await raw(request);
    expect(answer === '' || answer.startsWith('HTTP/1.1 408')).toBe(true);
    expect(seconds).toBeGreaterThan(after - 0.1);
    expect(seconds).toBeLessThan(after + 5);
  });

  it('ends an export that nobody reads, and has its database connection back', async () => {
    await service.register('scale_1', 'weight_scale');
    await database.query(
      `INSERT INTO device_readings (device_id, metric_type, value, unit, timestamp)
       SELECT 'scale_1', 'weight', 70, 'kg', timestamptz '2024-01-01Z' + n * interval '1 s'
       FROM generate_series(1, 300000) n`,
    );
    const running = (): Promise<unknown[]> =>
      database.query(
        `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'mqtt-service'
           AND query LIKE '%device_readings%' AND state <> 'idle'`,
      );
    const socket = connect(service.port, '127.0.0.1').on('error', () => undefined);
    const authorization = `Bearer ${await service.token()}`;
    socket.write(
      `GET /devices/scale_1/data HTTP/1.1\r\nHost: x\r\nAccept: text/csv\r\nAuthorization: ${authorization}\r\n\r\n`,
    );
    // Only what the operating system takes by itself is read.
    await until('the export to run', async () => (await running()).length === 1);
    await until('the export to end', async () => (await running()).length === 0, 15_000);
    let received = 0;
    socket.on('data', (chunk) => {
      received += chunk.length;
    });
    await once(socket, 'close');
    expect(received).toBeLessThan(300_000 * 60);
  });

  it.each([
    ['its proxy says', () => limited, '192.0.2.77'],
    ['it is connected from, when no proxy is trusted', () => service, '127.0.0.1'],
  ])(
    'notes as the source of a request the address %s, over HTTP and WebSocket',
    async (_what, of, source) => {
      const [http, ws] = [randomUUID(), randomUUID()];
      const from = (name: string): Record<string, string> => ({
        'x-forwarded-for': '203.0.113.9, 192.0.2.77',
        'x-request-id': name,
      });
      expect((await of().get('/devices', from(http))).status).toBe(401);
      expect(await (await of().live('?token=no.token', from(ws))).closed()).toBe(4401);
      const entries = await until('both entries', async () => {
        const rows = await database.query(
          'SELECT action, source FROM audit_log WHERE request_id = ANY($1) ORDER BY action',
          [[http, ws]],
        );
        return rows.length === 2 && rows;
      });
      expect(entries).toEqual([
        { action: 'listDevices', source },
        { action: 'openStream', source },
      ]);
    },
  );

  describe('throttling', () => {
    const from = (address: string): Record<string, string> => ({ 'x-forwarded-for': address });
    const times = async (count: number, headers: Record<string, string>): Promise<number[]> => {
      const answers = [];
      for (let index = 0; index < count; index += 1) answers.push(await limited.get('/devices', headers));
      return answers.map(({ status }) => status);
    };

    it('turns a token away that asks too often, wherever it asks from, and no other', async () => {
      const busy = `Bearer ${await limited.token({ role: 'viewer' })}`;
      const answers = [
        ...(await times(3, { ...from('192.0.2.1'), authorization: busy })),
        ...(await times(3, { ...from('192.0.2.2'), authorization: busy })),
      ];
      expect(answers).toEqual([...Array<number>(PER_TOKEN).fill(200), 429]);
      const refused = await limited.get('/devices', { ...from('192.0.2.3'), authorization: busy });
      expect(refused.headers.get('content-type')).toContain('application/problem+json');
      expect(refused.body).toMatchObject({ status: 429, code: 'too_many_requests' });
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
      expect(Number(refused.headers.get('retry-after'))).toBeLessThanOrEqual(60);
      const other = `Bearer ${await limited.token({ role: 'admin' })}`;
      expect(await times(1, { ...from('192.0.2.1'), authorization: other })).toEqual([200]);
    });

    it('turns an address away that tries one token after the other, and no other', async () => {
      const statuses = [];
      for (let index = 0; index <= PER_IP; index += 1) {
        statuses.push(...(await times(1, { ...from('192.0.2.9'), authorization: `Bearer guess${index}` })));
      }
      expect(statuses).toEqual([...Array<number>(PER_IP).fill(401), 429]);
      expect(await times(1, from('192.0.2.10'))).toEqual([401]);
    });

    it('turns an address away that tries one token after the other at the WebSocket, and no other', async () => {
      const guess = async (index: number): Promise<number> =>
        (await limited.live(`?token=guess${index}`, from('192.0.2.30'))).closed();
      const byMessage = async (index: number): Promise<number> => {
        const client = await limited.live('', from('192.0.2.30'));
        // Only the first of them is looked at.
        for (let more = 0; more < 10; more += 1)
          client.say({ event: 'authenticate', data: { token: `guess${index}.${more}` } });
        return client.closed();
      };
      const codes = [];
      for (let index = 0; index < PER_IP; index += 1)
        codes.push(await (index % 2 === 0 ? guess : byMessage)(index));
      expect(codes).toEqual([...Array<number>(PER_IP).fill(4401)]);
      const refused = new WebSocket(`ws://127.0.0.1:${limited.port}/ws/mqtt`, {
        headers: from('192.0.2.30'),
      });
      const [, answer] = (await once(refused, 'unexpected-response')) as [unknown, IncomingMessage];
      expect(answer.statusCode).toBe(429);
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
      expect(JSON.parse(await text(answer))).toMatchObject({ status: 429, code: 'too_many_requests' });
      // It is the same count as that of its requests.
      expect(await times(1, from('192.0.2.30'))).toEqual([429]);
      const other = await limited.live(`?token=${await limited.token()}`, from('192.0.2.31'));
      await other.hear('connected');
      other.end();
      await until('an entry of each guess', async () => {
        const rows = await database.query(
          "SELECT FROM audit_log WHERE source = '192.0.2.30' AND detail = 'bad_token'",
        );
        return rows.length === PER_IP;
      });
    });

    it('writes down the first it turns away in a minute, of an address and of a token', async () => {
      const authorization = `Bearer ${await limited.token({ role: 'viewer', ward: 'flood' })}`;
      expect((await times(PER_TOKEN + 4, { ...from('192.0.2.40'), authorization })).slice(PER_TOKEN)).toEqual(
        [429, 429, 429, 429],
      );
      expect((await times(PER_IP, from('192.0.2.40'))).slice(-2)).toEqual([429, 429]);
      const entries = await until('the entries', async () => {
        const rows = await database.query(
          `SELECT actor, source, outcome, detail, target FROM audit_log
           WHERE source = '192.0.2.40' AND action = 'exceedRateLimit' ORDER BY id`,
        );
        return rows.length >= 2 && rows;
      });
      const about = { source: '192.0.2.40', outcome: 'denied', detail: 'too_many_requests' };
      expect(entries).toEqual([
        { ...about, actor: 'tester', target: 'token' },
        { ...about, actor: null, target: 'address' },
      ]);
    });

    it('does not count probes and metrics', async () => {
      for (let index = 0; index <= PER_IP; index += 1) {
        for (const path of ['/health', '/health/ready', '/metrics'])
          expect((await limited.get(path, from('192.0.2.20'))).status).toBe(200);
      }
    });
  });
});
