import type { MqttClient } from 'mqtt';
import { Client } from 'pg';
import { verify, type AuditRow } from './support/audit-log.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Service, type Answer } from './support/service.js';
import { until } from './support/until.js';

describe('the audit log', () => {
  let database: TestDatabase;
  let service: Service;
  let device: MqttClient;
  let names = 0;

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({ DATABASE_URL: database.url, COMMANDS_ALLOW_CUSTOM: 'true' });
    device = await service.mqtt();
    await service.register('pump_1', 'blood_pressure_monitor', 1);
    await service.register('pump_2', 'blood_pressure_monitor', 2);
    await device.publishAsync(
      'devices/pump_1/data',
      JSON.stringify({ metric_type: 'blood_pressure', systolic: 123, diastolic: 83 }),
      { qos: 1 },
    );
    await until(
      'the readings',
      async () => (await service.read('/devices/pump_1/latest')).body.data.length > 0,
    );
  });
  afterAll(async () => {
    await device.endAsync();
    await service.remove();
    await database.drop();
  });

  /** A name no other request has. */
  const named = (): string => {
    names += 1;
    return `audit-test-${names}`;
  };
  const bearer = async (claims: Record<string, unknown>): Promise<string> =>
    `Bearer ${await service.token(claims)}`;
  const entriesOf = async (request: string): Promise<AuditRow[]> =>
    database.query<AuditRow>('SELECT * FROM audit_log WHERE request_id = $1 ORDER BY id', [request]);
  /** What a request has left in the log, once it is as much as expected. */
  const written = async (request: string, count: number): Promise<AuditRow[]> =>
    until(`${count} entries of ${request}`, async () => {
      const entries = await entriesOf(request);
      return entries.length >= count && entries;
    });
  /** Whoever has the head of the chain, so that nobody can write, until they end their transaction or their connection. */
  const holdingHead = async (): Promise<Client> => {
    const holder = new Client({ connectionString: database.url });
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM audit_head FOR UPDATE');
    return holder;
  };
  /** As seen from the outside: the newest page. */
  const audit = async (query = ''): Promise<Answer> => service.read(`/audit${query}`);

  describe('what it holds', () => {
    it.each([
      ['getDeviceData', '/devices/pump_1/data', null],
      ['getDeviceData', '/devices/pump_1/data?interval=5m', null],
      ['getLatestReadings', '/devices/pump_1/latest', null],
      ['getDevice', '/devices/pump_1', null],
      ['listCommands', '/devices/pump_1/commands', null],
    ])('%s: who read whose data, when, from where', async (action, path, detail) => {
      const request = named();
      const before = Date.now();
      const answer = await service.get(path, {
        authorization: await bearer({ role: 'clinician' }),
        'x-request-id': request,
      });
      expect(answer.status).toBe(200);
      // It is there by the time the answer is.
      const entries = await entriesOf(request);
      expect(entries).toEqual([
        expect.objectContaining({
          actor: 'tester',
          role: 'clinician',
          tenant: 'default',
          action,
          patient_id: 1,
          device_id: 'pump_1',
          source: expect.stringContaining('127.0.0.1'),
          outcome: 'done',
          detail,
        }),
      ]);
      const at = new Date(entries[0]?.at ?? 0).getTime();
      expect(at).toBeGreaterThanOrEqual(before);
      expect(at).toBeLessThanOrEqual(Date.now());
    });

    it.each(['text/csv', 'application/x-ndjson'])('an export as %s', async (accept) => {
      const request = named();
      const answer = await service.read('/devices/pump_1/data', { accept, 'x-request-id': request });
      expect(answer.text).toContain('123');
      expect(await entriesOf(request)).toEqual([
        expect.objectContaining({
          action: 'getDeviceData',
          detail: 'export',
          patient_id: 1,
          outcome: 'done',
        }),
      ]);
    });

    it('a registration and a command: that they were begun, and that they were done', async () => {
      const [registration, refused, command] = [named(), named(), named()];
      const body = { device_id: 'pump_3', type: 'glucose_meter', patient_id: 3 };
      await service.post('/devices/register', body, { 'x-request-id': registration });
      await service.post('/devices/register', body, { 'x-request-id': refused });
      const { body: sent } = await service.post(
        '/devices/pump_3/command',
        { command: 'start', parameters: { secret: 'canary' } },
        { 'x-request-id': command },
      );
      const about = { action: 'registerDevice', device_id: 'pump_3', actor: 'tester', role: 'admin' };
      expect(await written(registration, 2)).toEqual([
        expect.objectContaining({ ...about, outcome: 'begun' }),
        expect.objectContaining({ ...about, outcome: 'done', patient_id: 3 }),
      ]);
      expect(await written(refused, 2)).toEqual([
        expect.objectContaining({ ...about, outcome: 'begun', patient_id: 3 }),
        expect.objectContaining({ ...about, outcome: 'refused', detail: 'device_already_registered' }),
      ]);
      expect(await written(command, 2)).toEqual([
        expect.objectContaining({ action: 'sendCommand', outcome: 'begun', patient_id: 3 }),
        expect.objectContaining({ action: 'sendCommand', outcome: 'done', target: sent.command_id }),
      ]);
    });

    it('looking into the quarantine, trying a message again, and looking into itself', async () => {
      const [list, retry, itself] = [named(), named(), named()];
      await service.read('/rejected-messages?device_id=pump_1', { 'x-request-id': list });
      await service.post('/rejected-messages/77/retry', '', { 'x-request-id': retry });
      await service.read('/audit?patient_id=1', { 'x-request-id': itself });
      expect(await entriesOf(list)).toEqual([
        expect.objectContaining({ action: 'listRejectedMessages', device_id: 'pump_1', outcome: 'done' }),
      ]);
      expect(await written(retry, 2)).toEqual([
        expect.objectContaining({ action: 'retryRejectedMessage', target: '77', outcome: 'begun' }),
        expect.objectContaining({ outcome: 'refused', detail: 'rejected_message_not_found' }),
      ]);
      expect(await entriesOf(itself)).toEqual([
        expect.objectContaining({ action: 'listAudit', patient_id: 1, outcome: 'done' }),
      ]);
    });

    it('whom it was denied: no token, a bad token, no scope, another patient', async () => {
      const cases = [
        ['no_token', {}, 401, { actor: null, outcome: 'denied' }],
        ['bad_token', { authorization: 'Bearer not.a.token' }, 401, { actor: null, outcome: 'denied' }],
        [
          'insufficient_scope',
          { authorization: await bearer({ scope: 'stream' }) },
          403,
          { actor: 'tester', outcome: 'denied' },
        ],
        [
          'device_not_found',
          { authorization: await bearer({ role: 'patient', patient_id: 2 }) },
          404,
          { actor: 'tester', role: 'patient', outcome: 'refused' },
        ],
      ] as const;
      for (const [detail, headers, status, who] of cases) {
        const request = named();
        const answer = await service.get('/devices/pump_1/data', { ...headers, 'x-request-id': request });
        expect(answer.status).toBe(status);
        // The patient whose data it would have been.
        expect(await written(request, 1)).toEqual([
          expect.objectContaining({ ...who, action: 'getDeviceData', detail, patient_id: 1 }),
        ]);
      }
    });

    it('who opened the stream, who was sent away, and whose data was subscribed to', async () => {
      const [request, bad, scope] = [named(), named(), named()];
      const watcher = await service.live(`?token=${await service.token({ role: 'viewer' })}`, {
        'x-request-id': request,
      });
      await watcher.hear('connected');
      watcher.say({ event: 'subscribe', data: { device_ids: ['pump_2'], patient_ids: [1] } });
      await watcher.hear('subscribed');
      watcher.end();
      expect(await entriesOf(request)).toEqual([
        expect.objectContaining({ action: 'openStream', actor: 'tester', role: 'viewer', outcome: 'done' }),
        expect.objectContaining({ action: 'subscribeStream', device_id: 'pump_2', patient_id: 2 }),
        expect.objectContaining({ action: 'subscribeStream', device_id: null, patient_id: 1 }),
      ]);
      const stranger = await service.live('?token=not.a.token', { 'x-request-id': bad });
      expect(await stranger.closed()).toBe(4401);
      const scopeless = await service.live(`?token=${await service.token({ scope: 'readings:read' })}`, {
        'x-request-id': scope,
      });
      expect(await scopeless.closed()).toBe(4403);
      expect(await written(bad, 1)).toEqual([
        expect.objectContaining({
          action: 'openStream',
          actor: null,
          outcome: 'denied',
          detail: 'bad_token',
        }),
      ]);
      expect(await written(scope, 1)).toEqual([
        expect.objectContaining({ actor: 'tester', outcome: 'denied', detail: 'insufficient_scope' }),
      ]);
    });

    it('a subscription to more than 100 devices and patients in one entry', async () => {
      const request = named();
      const watcher = await service.live(`?token=${await service.token({ role: 'viewer' })}`, {
        'x-request-id': request,
      });
      await watcher.hear('connected');
      const patient_ids = Array.from({ length: 1_000 }, (_none, index) => index + 1);
      const device_ids = patient_ids.map((id) => `pump_${id}`);
      watcher.say({ event: 'subscribe', data: { device_ids, patient_ids } });
      await watcher.hear('subscribed');
      watcher.say({ event: 'subscribe', data: { device_ids: device_ids.slice(0, 100) } });
      await until(
        'the second answer',
        () => watcher.messages.filter(({ event }) => event === 'subscribed').length === 2,
      );
      watcher.end();
      const [, first, ...others] = await entriesOf(request);
      expect(first).toMatchObject({ action: 'subscribeStream', detail: '1000 devices, 1000 patients' });
      expect(others.map(({ device_id }) => device_id)).toEqual(device_ids.slice(0, 100));
    });

    it('no subscription to patients there can not be, and it takes no other entry with it', async () => {
      const [request, read] = [named(), named()];
      const watcher = await service.live(`?token=${await service.token({ role: 'viewer' })}`, {
        'x-request-id': request,
      });
      await watcher.hear('connected');
      watcher.say({ event: 'subscribe', data: { patient_ids: [3_000_000_000] } });
      const answer = await service.read('/devices/pump_1/latest', { 'x-request-id': read });
      expect(answer.status).toBe(200);
      expect((await watcher.hear('error')).data['code']).toBe('invalid_message');
      watcher.end();
      expect((await entriesOf(request)).map(({ action }) => action)).toEqual(['openStream']);
    });

    it('no other patient than the one who has the device, whatever the query or the body says', async () => {
      const attempts: [string, string, object | undefined, number][] = [
        ['GET', '/devices/pump_1?patient_id=999', undefined, 400],
        ['GET', '/devices/pump_1/latest?patient_id=999', undefined, 400],
        ['GET', '/devices/pump_1/data?patient_id=999', undefined, 400],
        ['POST', '/devices/pump_1/command?patient_id=999', { command: 'forged' }, 400],
        ['POST', '/devices/pump_1/command', { command: 'forged', patient_id: 999 }, 400],
        ['POST', '/devices/pump_1/credentials?patient_id=999', undefined, 400],
        ['POST', '/devices/pump_1/credentials', { patient_id: 999, device_id: 'pump_2' }, 400],
        ['DELETE', '/devices/pump_1?patient_id=999', undefined, 400],
        ['GET', '/devices/pump_1?patient_id=999', undefined, 401],
        ['POST', '/devices/pump_1/command', { command: 'forged', patient_id: 999 }, 401],
      ];
      for (const [method, path, body, status] of attempts) {
        const request = named();
        const response = await fetch(`http://127.0.0.1:${service.port}${path}`, {
          method,
          headers: {
            'x-request-id': request,
            ...(status !== 401 && { authorization: await bearer({ role: 'clinician' }) }),
            ...(body && { 'content-type': 'application/json' }),
          },
          ...(body && { body: JSON.stringify(body) }),
        });
        expect({ path, status: response.status }).toEqual({ path, status });
        if (status === 400)
          expect(await response.json()).toMatchObject({
            code: 'validation_failed',
            errors: expect.arrayContaining([{ field: 'patient_id', message: 'is not a known field' }]),
          });
        const writes = method !== 'GET' && status !== 401;
        const entries = await written(request, writes ? 2 : 1);
        for (const entry of entries) expect(entry).toMatchObject({ device_id: 'pump_1', patient_id: 1 });
      }
      expect(await database.query("SELECT FROM device_commands WHERE command = 'forged'")).toEqual([]);
    });

    it('a device that gives a wrong password, and one that pretends to be the service', async () => {
      const { body } = await service.register('locked_1', 'weight_scale', 7);
      const { username, client_id: clientId, password } = body.credentials;
      const enter = async (login: object): Promise<string> =>
        service.mqtt({ username, clientId, password, ...login }).then(
          async (client) => client.endAsync().then(() => 'let in'),
          () => 'refused',
        );
      const wrong = [
        { password: 'guess-1' },
        { password: 'guess-2' },
        { username: 'mqtt_user', password: 'x' },
      ];
      expect(await enter({})).toBe('let in');
      for (const login of wrong) expect(await enter(login)).toBe('refused');
      const entries = await until('what was written of it', async () => {
        const found = await database.query<AuditRow>(
          "SELECT * FROM audit_log WHERE action = 'connectDevice' ORDER BY id",
        );
        return found.length >= 2 && found;
      });
      const common = { actor: null, target: 'locked_1', outcome: 'denied', detail: 'bad_credentials' };
      expect(entries).toEqual([
        expect.objectContaining({ ...common, device_id: 'locked_1', patient_id: 7 }),
        expect.objectContaining({ ...common, device_id: 'mqtt_user', patient_id: null }),
      ]);
      for (const { source } of entries) expect(source).toContain('127.0.0.1');
      expect((await audit('?action=connectDevice')).body.data).toHaveLength(2);
    });

    it('a body that can not be read, once it is known whose it is', async () => {
      const send = async (
        token: string,
        type: string,
        body: string,
      ): Promise<Answer & { request: string }> => {
        const request = named();
        const headers = { authorization: token, 'content-type': type, 'x-request-id': request };
        return { ...(await service.post('/devices/pump_1/command', body, headers)), request };
      };
      for (const [type, body, status, code] of [
        ['application/json', '{"command":', 400, 'invalid_json'],
        ['application/json', '{"__proto__":1}', 400, 'validation_failed'],
        ['text/plain', 'identify', 415, 'unsupported_media_type'],
      ] as const) {
        const refused = await send(await bearer({ role: 'clinician' }), type, body);
        expect(refused).toMatchObject({ status, body: { code } });
        expect(await written(refused.request, 2)).toEqual([
          expect.objectContaining({ action: 'sendCommand', device_id: 'pump_1', outcome: 'begun' }),
          expect.objectContaining({ actor: 'tester', outcome: 'refused', detail: code }),
        ]);
        const viewer = await send(await bearer({ role: 'viewer' }), type, body);
        expect(viewer.status).toBe(403);
        expect(await written(viewer.request, 1)).toMatchObject([{ detail: 'insufficient_scope' }]);
        const nobody = await send('Bearer not.a.token', type, body);
        expect(nobody.status).toBe(401);
        expect(await written(nobody.request, 1)).toMatchObject([{ outcome: 'denied', detail: 'bad_token' }]);
      }
    });

    it('a look at what a device measured for former patients, under each of those it shows something of', async () => {
      await service.register('handed_on', 'weight_scale', 41);
      const weigh = async (kg: number, timestamp?: string): Promise<void> => {
        const payload = { metric_type: 'weight', value: kg, unit: 'kg', ...(timestamp && { timestamp }) };
        await device.publishAsync('devices/handed_on/data', JSON.stringify(payload), { qos: 1 });
        await until('the weight', async () => {
          const { body } = await service.read('/devices/handed_on/data');
          return body.data.some(({ value }: { value: number }) => value === kg);
        });
      };
      const handOn = async (patient_id: number): Promise<void> =>
        expect(await service.patch('/devices/handed_on', { patient_id })).toMatchObject({ status: 200 });
      await weigh(81, '2024-01-23T10:30:00.5Z');
      await handOn(42);
      await weigh(82);
      await handOn(43);
      await weigh(83);
      const { body } = await service.read('/devices/handed_on/data?limit=1');
      const now = encodeURIComponent(body.data[0].timestamp as string);

      const looks: [string, Record<string, unknown>, Record<string, string>, number[]][] = [
        ['data', {}, {}, [43, 41, 42]],
        ['data?order=asc&limit=2', {}, {}, [43, 41, 42]],
        ['data?limit=2', {}, {}, [43, 42]],
        [`data?from=${now}`, {}, {}, [43]],
        ['data?from=2025-01-01T00:00:00Z&to=2025-02-01T00:00:00Z', {}, {}, [43]],
        ['data?to=2025-01-01T00:00:00Z', {}, {}, [43, 41]],
        ['data?max_points=3', {}, {}, [43, 41, 42]],
        ['data?interval=1d&to=2025-01-01T00:00:00Z', {}, {}, [43, 41]],
        ['data?interval=1d&aggregate=avg', {}, {}, [43, 41, 42]],
        ['data', {}, { accept: 'text/csv' }, [43, 41, 42]],
        [`data?from=${now}`, {}, { accept: 'application/x-ndjson' }, [43]],
        ['latest', {}, {}, [43]],
        ['data', { role: 'patient', patient_id: 43 }, {}, [43]],
        ['data', { role: 'patient', patient_id: 41 }, {}, [43]],
      ];
      for (const [path, claims, headers, patients] of looks) {
        const request = named();
        const authorization = await bearer({ role: 'clinician', ...claims });
        await service.get(`/devices/handed_on/${path}`, {
          ...headers,
          authorization,
          'x-request-id': request,
        });
        const entries = await written(request, patients.length);
        expect({ path, patients: entries.map(({ patient_id }) => patient_id) }).toEqual({ path, patients });
      }
      const [live, resumed] = [named(), named()];
      for (const [request, since] of [
        [live, null],
        [resumed, '1.0.0.0'],
      ] as const) {
        const watcher = await service.live(`?token=${await service.token({ role: 'viewer' })}`, {
          'x-request-id': request,
        });
        await watcher.hear('connected');
        const filter = { device_ids: ['handed_on'], ...(since !== null && { since }) };
        watcher.say({ event: 'subscribe', data: filter });
        await watcher.hear('subscribed');
        watcher.end();
      }
      const subscribed = async (request: string): Promise<(number | null)[]> =>
        (await entriesOf(request))
          .filter(({ action }) => action === 'subscribeStream')
          .map(({ patient_id }) => patient_id);
      expect(await subscribed(live)).toEqual([43]);
      // All of them have had it within STREAM_REPLAY.
      expect(await subscribed(resumed)).toEqual([43, 41, 42]);
      expect(await audit('?patient_id=42')).toMatchObject({
        body: { data: expect.arrayContaining([expect.objectContaining({ action: 'getDeviceData' })]) },
      });
    });

    it('one actor for each subject, also where they differ in what does not fit or can not be stored', async () => {
      const long = 'x'.repeat(255);
      const subjects = [`${long}a`, `${long}b`, 'a\u0001', 'a\u0002', long, '\u{1f600}'.repeat(255)];
      const actors = [];
      for (const sub of subjects) {
        const request = named();
        const authorization = await bearer({ role: 'viewer', sub });
        await service.get('/devices/pump_1', { authorization, 'x-request-id': request });
        actors.push((await entriesOf(request))[0]?.actor);
      }
      expect(new Set(actors).size).toBe(subjects.length);
      expect(actors[0]).toMatch(/^x{222}~[0-9a-f]{32}$/);
      expect(actors.slice(4)).toEqual(subjects.slice(4));
      expect((await audit(`?actor=${actors[1] ?? ''}`)).body.data).toHaveLength(1);
    });

    it('every operation of the API description that needs a token, without having been told of it', async () => {
      const { body: api } = await service.get('/openapi.json');
      const operations = Object.entries(api.paths as Record<string, Record<string, any>>) // eslint-disable-line @typescript-eslint/no-explicit-any -- it is what a document may hold
        .flatMap(([path, methods]) => Object.entries(methods).map(([method, op]) => ({ path, method, op })))
        .filter(({ op }) => op.security !== undefined);
      expect(operations.length).toBeGreaterThanOrEqual(12);
      for (const { path, method, op } of operations) {
        const request = named();
        await fetch(`http://127.0.0.1:${service.port}${path.replaceAll(/\{[^}]*\}/g, '1')}`, {
          method: method.toUpperCase(),
          headers: { authorization: await bearer({ role: 'admin' }), 'x-request-id': request },
        });
        const [entry] = await written(request, 1);
        expect(entry).toMatchObject({ action: op.operationId, actor: 'tester' });
      }
    });

    it('no health check, and no value, token or password', async () => {
      const request = named();
      const token = await service.token();
      await service.get('/health', { 'x-request-id': request });
      await service.get(`/devices/pump_1/data?limit=1`, { authorization: `Bearer ${token}` });
      expect(await entriesOf(request)).toEqual([]);
      const [all] = await database.query<{ text: string }>(
        'SELECT string_agg(audit_log::text, chr(10)) AS text FROM audit_log',
      );
      for (const secret of ['canary', token, token.split('.')[2] ?? '-', '123.00'])
        expect(all?.text ?? '').not.toContain(secret);
    });
  });

  describe('X-Request-Id', () => {
    it('is taken when it is sane, made when not, and answered in either case, with failures too', async () => {
      const own = await service.read('/devices', { 'x-request-id': 'ward-7-request-1' });
      expect(own.headers.get('x-request-id')).toBe('ward-7-request-1');
      for (const path of ['/devices', '/health', '/nowhere', '/devices/x']) {
        const made = await service.get(path, { 'x-request-id': 'no good' });
        expect(made.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
      }
      const broken = await service.post('/devices/register', '{', { 'x-request-id': 'ward-7-request-2' });
      expect(broken.status).toBe(400);
      expect(broken.headers.get('x-request-id')).toBe('ward-7-request-2');
    });
  });

  describe('GET /audit', () => {
    it('is for administrators who are not confined to a patient', async () => {
      for (const claims of [{ role: 'clinician' }, { role: 'viewer' }, { role: 'admin', patient_id: 1 }]) {
        expect((await service.get('/audit', { authorization: await bearer(claims) })).status).toBe(403);
      }
      expect((await service.get('/audit')).status).toBe(401);
    });

    it('filters, and pages newest first, each entry once', async () => {
      const authorization = await bearer({ role: 'viewer' });
      const since = new Date().toISOString();
      for (let index = 0; index < 5; index += 1)
        await service.get(`/devices/pump_${(index % 2) + 1}/latest`, { authorization });
      const query = `action=getLatestReadings&from=${since}`;
      const ids: number[] = [];
      let cursor: string | null = '';
      while (cursor !== null) {
        const { body }: Answer = await audit(`?${query}&limit=2${cursor && `&cursor=${cursor}`}`);
        ids.push(...(body.data as AuditRow[]).map(({ id }) => id));
        cursor = body.next_cursor as string | null;
      }
      expect(ids).toHaveLength(5);
      expect(ids).toEqual([...ids].sort((a, b) => b - a));
      const count = async (more: string): Promise<number> =>
        (await audit(`?${query}&${more}`)).body.data.length as number;
      expect(await count('device_id=pump_2')).toBe(2);
      expect(await count('patient_id=1')).toBe(3);
      expect(await count('actor=tester')).toBe(5);
      expect(await count('actor=nobody')).toBe(0);
      expect(await count(`to=${since}`)).toBe(0);
      const { body } = await audit('?limit=1');
      expect(Object.keys(body.data[0] as object)).toContain('request_id');
      expect(body.data[0]).toMatchObject({ hash: expect.stringMatching(/^[0-9a-f]{64}$/) });
    });

    it.each(['limit=0', 'patient_id=x', 'from=yesterday', 'cursor=abc', 'unknown=1', 'actor=a%00'])(
      'refuses ?%s',
      async (query) => {
        expect((await audit(`?${query}`)).status).toBe(400);
      },
    );
  });

  it('holds the answer to a read back until it is written down', async () => {
    const holder = await holdingHead();
    try {
      let answered = 0;
      const reads = [
        { path: '/devices/pump_1/data' },
        { path: '/devices/pump_1/data', accept: 'text/csv' },
        { path: '/devices/pump_1/latest' },
        { path: '/devices/pump_1' },
      ].map(async ({ path, accept = 'application/json' }) => {
        const request = named();
        const { status } = await service.read(path, { accept, 'x-request-id': request });
        answered += 1;
        return { status, entries: (await entriesOf(request)).length };
      });
      await until('an entry to wait', async () => {
        const waiting = await database.query(
          `SELECT FROM pg_stat_activity
           WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%audit_append%'`,
        );
        return waiting.length > 0;
      });
      // Asked after them, and of the same process: whoever did not wait has been answered before.
      await service.get('/health/live');
      expect(answered).toBe(0);
      await holder.query('COMMIT');
      expect(await Promise.all(reads)).toEqual(reads.map(() => ({ status: 200, entries: 1 })));
    } finally {
      await holder.end();
    }
  });

  describe('while it can not be written', () => {
    it('nothing is shown and nothing done, denials are still answered and noted later, and the ingest goes on', async () => {
      const [read, denied, command] = [named(), named(), named()];
      await database.query('ALTER TABLE audit_head RENAME TO audit_head_away');
      try {
        const authorization = await bearer({ role: 'admin' });
        for (const headers of [{}, { accept: 'text/csv' }]) {
          const answer = await service.get('/devices/pump_1/data', {
            authorization,
            'x-request-id': read,
            ...headers,
          });
          expect({ status: answer.status, code: answer.body.code }).toEqual({
            status: 503,
            code: 'audit_unavailable',
          });
          expect(answer.text).not.toContain('123');
        }
        const order = await service.post(
          '/devices/pump_1/command',
          { command: 'unwritten' },
          { 'x-request-id': command },
        );
        expect(order.status).toBe(503);
        expect((await service.get('/devices/pump_1/data', { 'x-request-id': denied })).status).toBe(401);
        const watcher = await service.live(`?token=${await service.token()}`);
        expect(await watcher.closed()).toBe(1013);
        await device.publishAsync(
          'devices/pump_2/data',
          JSON.stringify({ metric_type: 'blood_pressure', systolic: 141, diastolic: 91 }),
          { qos: 1 },
        );
        await until('the reading to be stored', async () => {
          const rows = await database.query("SELECT FROM device_readings WHERE device_id = 'pump_2'");
          return rows.length > 0;
        });
      } finally {
        await database.query('ALTER TABLE audit_head_away RENAME TO audit_head');
      }
      expect(await written(denied, 1)).toEqual([
        expect.objectContaining({ outcome: 'denied', detail: 'no_token' }),
      ]);
      // What was refused for want of an entry has one after all.
      expect((await written(read, 2))[0]).toMatchObject({ outcome: 'failed', detail: 'audit_unavailable' });
      expect(await entriesOf(command)).toEqual([]);
      expect(await database.query("SELECT FROM device_commands WHERE command = 'unwritten'")).toEqual([]);
      expect((await service.read('/devices/pump_1/data')).status).toBe(200);
      expect(verify(database.url).status).toBe(0);
    });

    it('an ingest does not wait for whoever holds the head of the chain', async () => {
      const holder = await holdingHead();
      let isAnswered = false;
      const waiting = service.read('/devices/pump_1/latest').finally(() => (isAnswered = true));
      try {
        for (let index = 0; index < 20; index += 1) {
          await device.publishAsync(
            'devices/pump_1/data',
            JSON.stringify({ metric_type: 'blood_pressure', systolic: 100 + index, diastolic: 70 }),
            { qos: 1 },
          );
        }
        await until('all of them stored', async () => {
          const [row] = await database.query<{ count: string }>(
            "SELECT count(*) FROM device_readings WHERE device_id = 'pump_1' AND metric_type LIKE '%systolic%'",
          );
          return Number(row?.count) >= 21;
        });
        expect(isAnswered).toBe(false);
      } finally {
        await holder.end();
      }
      expect((await waiting).status).toBe(200);
    });
  });
});
