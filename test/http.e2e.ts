import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { json } from 'node:stream/consumers';
import type { MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

describe('the REST API', () => {
  let database: TestDatabase;
  let service: Service;
  let device: MqttClient;

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({ DATABASE_URL: database.url });
    device = await service.mqtt();
    await service.register('scale_1', 'weight_scale', 7);
    await service.register('scale_2', 'weight_scale', 8);
    const readings = Array.from({ length: 25 }, (_, index) => ({
      metric_type: 'weight',
      value: 70 + ((index * 7) % 25),
      timestamp: `2024-01-01T10:${String(index).padStart(2, '0')}:00Z`,
    }));
    await device.publishAsync('devices/scale_1/data', JSON.stringify({ readings }), { qos: 1 });
    await until(
      'the readings',
      async () => (await service.read('/devices/scale_1/data')).body.data.length === 25,
    );
  });
  afterAll(async () => {
    await device.endAsync();
    await service.remove();
    await database.drop();
  });

  describe('POST /devices/register', () => {
    const valid = { device_id: 'new_1', type: 'glucose_meter', patient_id: 3 };

    it.each([
      ['a device id with a slash', { ...valid, device_id: 'a/b' }, 'device_id'],
      ['a device id with a wildcard', { ...valid, device_id: 'a+' }, 'device_id'],
      ['a device id with NUL', { ...valid, device_id: 'a\u0000' }, 'device_id'],
      ['a device id of 256 characters', { ...valid, device_id: 'a'.repeat(256) }, 'device_id'],
      ['a device id that is a number', { ...valid, device_id: 7 }, 'device_id'],
      ['a missing device id', { type: 'glucose_meter', patient_id: 3 }, 'device_id'],
      ['an unknown type', { ...valid, type: 'toaster' }, 'type'],
      ['a patient id that is text', { ...valid, patient_id: '3' }, 'patient_id'],
      ['a patient id of 0', { ...valid, patient_id: 0 }, 'patient_id'],
      ['a patient id over 32 bits', { ...valid, patient_id: 2_147_483_648 }, 'patient_id'],
      ['a broken patient id', { ...valid, patient_id: 1.5 }, 'patient_id'],
      ['an unknown field', { ...valid, admin: true }, 'admin'],
      [
        'a __proto__ key',
        '{"device_id":"new_1","type":"glucose_meter","patient_id":3,"__proto__":{"a":1}}',
        '__proto__',
      ],
      ['NUL in a text', { ...valid, model: 'a\u0000b' }, 'model'],
      ['a model that is a list', { ...valid, model: ['x'] }, 'model'],
    ])('refuses %s and names the field', async (_what, body, field) => {
      const answer = await service.post('/devices/register', body);
      expect(answer.status).toBe(400);
      expect(answer.headers.get('content-type')).toContain('application/problem+json');
      expect(answer.body).toMatchObject({
        type: expect.any(String),
        title: 'Bad Request',
        status: 400,
        detail: expect.any(String),
        instance: '/devices/register',
        code: 'validation_failed',
      });
      expect(answer.body.errors).toContainEqual({ field, message: expect.any(String) });
    });

    it.each([
      ['broken JSON', '{"device_id":', 400, 'invalid_json'],
      ['no body', '', 400, 'validation_failed'],
      ['a list', '[]', 400, 'validation_failed'],
      [
        'JSON nested 1,000 deep',
        `{"model":${'['.repeat(1_000)}${']'.repeat(1_000)}}`,
        400,
        'validation_failed',
      ],
      ['a body over 100 kB', `{"model":"${'x'.repeat(102_400)}"}`, 413, 'payload_too_large'],
    ])('refuses %s', async (_what, body, status, code) => {
      const answer = await service.post('/devices/register', body);
      expect({ status: answer.status, code: answer.body.code }).toEqual({ status, code });
    });

    it('refuses a body that is not UTF-8', async () => {
      const response = await fetch(`http://127.0.0.1:${service.port}/devices/register`, {
        method: 'POST',
        headers: { authorization: `Bearer ${await service.token()}`, 'content-type': 'application/json' },
        body: Buffer.concat([Buffer.from('{"model":"'), Buffer.from([0xff]), Buffer.from('"}')]),
      });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ code: 'invalid_json' });
    });

    it('refuses what Expect can not mean', async () => {
      const expecting = request({
        ...{ port: service.port, host: '127.0.0.1', method: 'POST', path: '/devices/register' },
        headers: { expect: 'miracles' },
      }).end();
      const [response] = (await once(expecting, 'response')) as [IncomingMessage];
      expect(response.statusCode).toBe(417);
      expect(response.headers['content-type']).toContain('application/problem+json');
      expect(await json(response)).toMatchObject({ status: 417, code: 'expectation_failed' });
    });

    it('refuses another media type', async () => {
      const answer = await service.post('/devices/register', 'device_id=a', {
        'content-type': 'application/x-www-form-urlencoded',
      });
      expect({ status: answer.status, code: answer.body.code }).toEqual({
        status: 415,
        code: 'unsupported_media_type',
      });
    });

    it('registers once', async () => {
      expect(
        (await service.post('/devices/register', { ...valid, model: 'G1', serial_number: 'S' })).status,
      ).toBe(201);
      const again = await service.post('/devices/register', valid);
      expect({ status: again.status, code: again.body.code }).toEqual({
        status: 409,
        code: 'device_already_registered',
      });
    });

    it('registers once when asked twenty times at once', async () => {
      const answers = await Promise.all(Array.from({ length: 20 }, () => service.register('race_1')));
      expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array<number>(19).fill(409)]);
    });
  });

  describe('who may', () => {
    it.each([
      ['GET', '/devices'],
      ['GET', '/devices/scale_1'],
      ['GET', '/devices/scale_1/data'],
      ['GET', '/devices/scale_1/latest'],
      ['GET', '/devices/scale_1/commands'],
      ['POST', '/devices/register'],
      ['POST', '/devices/scale_1/command'],
    ])('%s %s: nobody without a good token', async (method, path) => {
      const expired = await service.token({ role: 'admin' }, '-1m');
      const forged = `${(await service.token()).slice(0, -4)}AAAA`;
      for (const authorization of ['', 'Bearer', 'Basic YTpi', `Bearer ${expired}`, `Bearer ${forged}`]) {
        const answer =
          method === 'GET'
            ? await service.get(path, { authorization })
            : await service.post(path, {}, { authorization });
        expect(answer.status).toBe(401);
        expect(answer.body.code).toBe('unauthorized');
        expect(answer.headers.get('www-authenticate')).toBe('Bearer');
      }
    });

    it('only what the scope permits', async () => {
      const viewer = { authorization: `Bearer ${await service.token({ role: 'viewer' })}` };
      expect((await service.get('/devices/scale_1/data', viewer)).status).toBe(200);
      const answer = await service.post('/devices/scale_1/command', { command: 'identify' }, viewer);
      expect({ status: answer.status, code: answer.body.code }).toEqual({
        status: 403,
        code: 'insufficient_scope',
      });
      const scoped = { authorization: `Bearer ${await service.token({ scope: 'devices:read' })}` };
      expect((await service.get('/devices/scale_1', scoped)).status).toBe(200);
      expect((await service.get('/devices/scale_1/data', scoped)).status).toBe(403);
    });

    it('a patient only sees what is theirs', async () => {
      const patient = { authorization: `Bearer ${await service.token({ role: 'patient', patient_id: 7 })}` };
      expect((await service.get('/devices/scale_1/data', patient)).status).toBe(200);
      for (const path of ['/devices/scale_2', '/devices/scale_2/data', '/devices/scale_2/latest']) {
        const answer = await service.get(path, patient);
        expect({ status: answer.status, code: answer.body.code }).toEqual({
          status: 404,
          code: 'device_not_found',
        });
      }
      const { body } = await service.get('/devices', patient);
      expect(body.data.map((found: { device_id: string }) => found.device_id)).toEqual(['scale_1']);
      expect((await service.get('/devices?patient_id=8', patient)).body.data).toEqual([]);
    });
  });

  describe('GET /devices/{device_id}/data', () => {
    type Row = { id: number; value: number; timestamp: string };
    const get = (query: string, headers = {}): ReturnType<Service['read']> =>
      service.read(`/devices/scale_1/data${query}`, headers);

    it.each(['desc', 'asc'])('pages through all readings once, %s', async (order) => {
      const seen: Row[] = [];
      let cursor: string | null = '';
      let pages = 0;
      while (cursor !== null) {
        const { body } = await get(`?order=${order}&limit=10${cursor && `&cursor=${cursor}`}`);
        seen.push(...(body.data as Row[]));
        cursor = body.next_cursor as string | null;
        pages += 1;
      }
      expect(pages).toBe(3);
      expect(new Set(seen.map(({ id }) => id)).size).toBe(25);
      const times = seen.map(({ timestamp }) => timestamp);
      expect(times).toEqual(order === 'asc' ? [...times].sort() : [...times].sort().reverse());
    });

    it('filters by metric and time', async () => {
      const { body } = await get(
        '?metric_type=weight,bmi&from=2024-01-01T10:05:00Z&to=2024-01-01T12:07:00%2B02:00',
      );
      expect(body.data.map(({ timestamp }: Row) => timestamp)).toEqual([
        '2024-01-01T10:06:00.000Z',
        '2024-01-01T10:05:00.000Z',
      ]);
      expect((await get('?metric_type=bmi')).body.data).toEqual([]);
    });

    it('aggregates', async () => {
      const { body } = await get('?interval=10m&aggregate=min,max,count&order=asc&to=2024-01-01T10:10:00Z');
      const values = Array.from({ length: 10 }, (_, index) => 70 + ((index * 7) % 25));
      expect(body.data).toEqual([
        {
          metric_type: 'weight',
          unit: 'kg',
          timestamp: '2024-01-01T10:00:00.000Z',
          min: Math.min(...values),
          max: Math.max(...values),
          count: 10,
        },
      ]);
      const first = await get('?interval=10m&limit=2');
      const second = await get(`?interval=10m&limit=2&cursor=${first.body.next_cursor}`);
      expect(second.body).toMatchObject({
        data: [{ timestamp: '2024-01-01T10:00:00.000Z' }],
        next_cursor: null,
      });
    });

    it('downsamples and keeps the extremes', async () => {
      const { body } = await get('?max_points=10');
      const values = body.data.map(({ value }: Row) => value);
      expect(values.length).toBeLessThanOrEqual(10);
      expect(Math.max(...values)).toBe(94);
      expect(Math.min(...values)).toBe(70);
    });

    it('streams CSV and NDJSON', async () => {
      const csv = await get('?order=asc', { accept: 'text/csv' });
      expect(csv.headers.get('content-type')).toContain('text/csv');
      const lines = csv.text.trimEnd().split('\r\n');
      expect(lines[0]).toBe('id,device_id,metric_type,value,unit,timestamp,metadata');
      expect(lines).toHaveLength(26);
      const ndjson = await get('', { accept: 'application/x-ndjson' });
      const rows = ndjson.text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as Row);
      expect(rows).toEqual((await get('')).body.data);
    });

    it.each(['cursor=x', 'interval=5m', 'aggregate=avg', 'max_points=9'])(
      'refuses an export with ?%s',
      async (query) => {
        const answer = await get(`?${query}`, { accept: 'text/csv' });
        expect({ status: answer.status, code: answer.body.code }).toEqual({
          status: 400,
          code: 'validation_failed',
        });
      },
    );

    it.each([
      ['limit=0', 'limit'],
      ['limit=1001', 'limit'],
      ['limit=ten', 'limit'],
      ['from=yesterday', 'from'],
      ['to=2024-01-01', 'to'],
      ['order=random', 'order'],
      ['cursor=abc', 'cursor'],
      ['interval=5', 'interval'],
      ['interval=5m&aggregate=median', 'aggregate'],
      ['aggregate=avg', 'interval'],
      ['interval=5m&max_points=10', 'max_points'],
      ['max_points=1', 'max_points'],
      ['metric_type=DROP TABLE', 'metric_type'],
      ['unknown=1', 'unknown'],
      ['limit=1&limit=2', 'limit'],
      ['metric_type=%00', 'metric_type'],
      ['__proto__=1', '__proto__'],
      ['%00=1', 'query'],
    ])('refuses ?%s', async (query, field) => {
      const answer = await get(`?${query}`);
      expect({ status: answer.status, code: answer.body.code }).toEqual({
        status: 400,
        code: 'validation_failed',
      });
      expect(answer.body.errors).toContainEqual({ field, message: expect.any(String) });
    });

    it.each(['%2B', '%23', 'a%2Fb', '%00', '%E0%A4%A', 'a'.repeat(256)])(
      'refuses the device id %s',
      async (id) => {
        expect((await service.read(`/devices/${id}/data`)).status).toBe(400);
      },
    );

    it('answers 404 for an unknown device and an unknown route', async () => {
      expect((await service.read('/devices/nobody/data')).body).toMatchObject({
        status: 404,
        code: 'device_not_found',
      });
      expect((await service.read('/nowhere')).body).toMatchObject({ status: 404, code: 'route_not_found' });
    });
  });

  it('takes no notice of what a GET carries', async () => {
    const got = request({
      ...{ port: service.port, host: '127.0.0.1', path: '/devices' },
      headers: {
        authorization: `Bearer ${await service.token()}`,
        'content-type': 'application/json; charset=bogus',
        'content-length': 1,
      },
    }).end('{');
    const [response] = (await once(got, 'response')) as [IncomingMessage];
    expect(response.statusCode).toBe(200);
    response.resume();
  });

  describe('GET /devices', () => {
    it('pages in the order of registration and filters', async () => {
      const first = await service.read('/devices?type=weight_scale&limit=1');
      expect(first.body.data.map((found: { device_id: string }) => found.device_id)).toEqual(['scale_1']);
      const second = await service.read(
        `/devices?type=weight_scale&limit=1&cursor=${first.body.next_cursor}`,
      );
      expect(second.body).toMatchObject({ data: [{ device_id: 'scale_2' }], next_cursor: null });
      expect((await service.read('/devices?status=offline')).body.data).toEqual([]);
      expect((await service.read('/devices?patient_id=8')).body.data).toHaveLength(1);
    });
  });

  describe('documentation', () => {
    it('describes every business route with its scope-bound token and its problems', async () => {
      const { body } = await service.get('/openapi.json');
      expect(Object.keys(body.paths).sort()).toEqual([
        '/audit',
        '/device-types',
        '/devices',
        '/devices/register',
        '/devices/{device_id}',
        '/devices/{device_id}/command',
        '/devices/{device_id}/commands',
        '/devices/{device_id}/commands/{command_id}',
        '/devices/{device_id}/commands/{command_id}/cancel',
        '/devices/{device_id}/credentials',
        '/devices/{device_id}/data',
        '/devices/{device_id}/latest',
        '/devices/{device_id}/status-history',
        '/health',
        '/health/detailed',
        '/health/live',
        '/health/ready',
        '/metrics',
        '/rejected-messages',
        '/rejected-messages/{id}/retry',
        '/stream',
        '/webhooks',
        '/webhooks/{webhook_id}',
        '/webhooks/{webhook_id}/deliveries',
        '/webhooks/{webhook_id}/replay',
      ]);
      for (const [path, methods] of Object.entries<Record<string, { security?: unknown; responses: object }>>(
        body.paths,
      )) {
        for (const operation of Object.values(methods)) {
          expect(operation.security !== undefined).toBe(!/^\/(health|metrics)/.test(path));
          if (operation.security) expect(operation.responses).toHaveProperty('401');
        }
      }
    });

    it('loads every asset of /docs and /redoc from itself', async () => {
      for (const page of ['/docs', '/redoc']) {
        const { text } = await service.get(page);
        const assets = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, address = '']) => address);
        expect(assets.length).toBeGreaterThan(0);
        for (const address of assets) {
          expect(address).not.toMatch(/^(https?:)?\/\//);
          const { status } = await service.get(new URL(address, `http://x${page}`).pathname);
          expect({ address, status }).toEqual({ address, status: 200 });
        }
      }
    });
  });
});
