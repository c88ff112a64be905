import { mkdirSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { dirname } from 'node:path';
import fc, { type Arbitrary } from 'fast-check';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';
import { ApiDocument } from './fuzz/document.js';
import { send, sendSpoilt, type WireAnswer } from './fuzz/exchange.js';
import { RequestSource, type Drawn, type Known } from './fuzz/requests.js';

/** FUZZ_SEED repeats a run: what it draws, not in which order sixteen at once are answered. */
const SEED = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2_147_483_647);
const REQUESTS = Number(process.env['FUZZ_REQUESTS'] ?? 3_000);
/** Of them, to the routes that only brokers ask, which another service has. */
const BROKER_SHARE = 0.06;
const AT_ONCE = 16;
const LOT = 500;
const MS_PER_REQUEST = 30;
const SECRET = 'a-secret-of-the-broker-with-more-than-32-bytes';
const TYPES = [
  'blood_pressure_monitor',
  'glucose_meter',
  'pulse_oximeter',
  'ecg_monitor',
  'weight_scale',
  'temperature_sensor',
];

/** What one kind of wrong answer looks like. */
interface Finding {
  readonly what: string;
  readonly request: string;
  readonly answer: string;
  count: number;
}

describe(`requests drawn from the OpenAPI document, FUZZ_SEED=${SEED}`, () => {
  let database: TestDatabase;
  let service: Service;
  let asked: Service;
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
  const findings = new Map<string, Finding>();
  const statuses = new Map<string, number>();
  const began = performance.now();

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({ DATABASE_URL: database.url, LOG_LEVEL: 'WARN' });
    // The routes brokers ask are there only where a broker asks. This one is away: what it would ask is drawn, too.
    asked = await Service.prepare({
      DATABASE_URL: database.url,
      LOG_LEVEL: 'WARN',
      MQTT_BROKER_HOST: '127.0.0.1',
      BROKER_ACCESS: 'http',
      MQTT_HTTP_AUTH_SECRET: SECRET,
    });
    await asked.launch();
    await until('its database', () => questionable());
  });
  afterAll(async () => {
    agent.destroy();
    await Promise.all([service.remove(), asked.remove()]);
    await database.drop();
  });

  it(
    `meet no 5xx, and answers that the document knows: ${REQUESTS} of them`,
    async () => {
      const known = await furnish();
      for (const [target, share] of [
        [asked, BROKER_SHARE],
        [service, 1 - BROKER_SHARE],
      ] as const) {
        const document = new ApiDocument((await target.get('/openapi.json')).body);
        const operations = document.operations.filter(
          ({ path }) => target === service || path.startsWith('/mqtt/'),
        );
        const source = new RequestSource(document, known).arbitrary(operations);
        const wanted = Math.round(REQUESTS * share);
        const drawn = draw(source, wanted);
        await Promise.all(
          Array.from({ length: AT_ONCE }, async () => {
            for (let { value } = drawn.next(); value; { value } = drawn.next())
              await put(target, document, value);
          }),
        );
      }
      report();
      expect([...findings.values()]).toEqual([]);
      expect(service.log + asked.log).not.toContain('"level":50');
    },
    60_000 + REQUESTS * MS_PER_REQUEST,
  );

  it('leave the services ready and at work', async () => {
    expect((await service.get('/health/ready')).status).toBe(200);
    expect(await questionable()).toBe(true);
    const id = 'weight_scale_after';
    expect((await service.register(id, 'weight_scale')).status).toBe(201);
    const device = await service.mqtt();
    await device.publishAsync(`devices/${id}/data`, '{"metric_type":"weight","value":70}', { qos: 1 });
    await until(
      'the reading',
      async () => (await service.read(`/devices/${id}/data`)).body.data.length === 1,
    );
    await device.endAsync();
  });

  /** Whether the service that a broker asks has an answer for it. */
  const questionable = async (): Promise<boolean> =>
    (await asked.post('/mqtt/auth', {}, { authorization: `Bearer ${SECRET}` })).status === 200;

  /** Something of everything there is to ask for. */
  const furnish = async (): Promise<Known> => {
    const device = await service.mqtt();
    const publish = (topic: string, body: unknown): Promise<unknown> =>
      device.publishAsync(topic, JSON.stringify(body), { qos: 1 });
    const commands: string[] = [];
    for (const [at, type] of TYPES.entries()) {
      await service.register(`kept_${type}`, type, 1 + (at % 3));
      await publish(`devices/kept_${type}/status`, { status: 'online', battery: 80, signal_strength: -60 });
    }
    const readings = Array.from({ length: 40 }, (_, at) => ({
      metric_type: 'weight',
      value: 60 + at / 4,
      timestamp: new Date(Date.parse('2023-12-31T23:50:00Z') + at * 61_000).toISOString(),
    }));
    await publish('devices/kept_weight_scale/data', { readings });
    await publish('devices/kept_pulse_oximeter/data', {
      metric_type: 'spo2',
      value: 97,
      timestamp: '1970-01-01T00:00:00.000001Z',
    });
    await publish('devices/kept_glucose_meter/data', { metric_type: 'glucose', value: 5.5, unit: 'mmol/L' });
    for (const [at, payload] of [
      '{',
      { metric_type: 'weight', value: 9_999 },
      { metric_type: 'x', value: 1 },
      {},
    ].entries())
      await publish(`devices/${at % 2 === 0 ? 'nobody' : 'kept_weight_scale'}/data`, payload);
    for (let at = 0; at < 60; at += 1) {
      const { body } = await service.post(`/devices/kept_${TYPES[at % TYPES.length]}/command`, {
        command: 'identify',
      });
      commands.push(body.command_id as string);
    }
    // Devices report what they like as the result of a command.
    for (const [at, result] of [5, 'done', ['a'], { a: 1 }, true, null].entries())
      await publish(`devices/kept_${TYPES[at]}/responses`, {
        command_id: commands[at],
        status: 'completed',
        result,
      });
    for (let at = 0; at < 30; at += 1) {
      await service.register(`doomed_${at}`, TYPES[at % TYPES.length], 1 + (at % 3));
      await service.post(`/devices/doomed_${at}/command`, { command: 'identify' });
    }
    const rejected = await until('the messages to be stored', async () => {
      const { body } = await service.read('/rejected-messages');
      const history = await service.read('/devices/kept_weight_scale/data');
      const last = await service.read(`/devices/kept_temperature_sensor/commands/${commands[5]}`);
      return (
        body.data.length === 4 &&
        history.body.data.length === 40 &&
        last.body.status === 'completed' &&
        body.data
      );
    });
    await device.endAsync();
    const cursors: string[] = [];
    for (const list of [
      '/devices',
      '/audit',
      '/rejected-messages',
      '/devices/kept_weight_scale/data',
      '/devices/kept_blood_pressure_monitor/commands',
    ]) {
      cursors.push((await service.read(`${list}?limit=1`)).body.next_cursor as string);
    }
    cursors.push(
      (await service.read('/devices/kept_weight_scale/data?interval=5m&limit=1')).body.next_cursor as string,
    );
    const kept = TYPES.map((type) => `kept_${type}`);
    const doomed = Array.from({ length: 30 }, (_, at) => `doomed_${at}`);
    const roles: readonly (readonly [number, Record<string, unknown>])[] = [
      [40, { role: 'admin' }],
      [4, { role: 'clinician' }],
      [2, { role: 'viewer' }],
      [3, { role: 'patient', patient_id: 1 }],
      [2, { scope: 'devices:write devices:read commands:send commands:read readings:read', patient_id: 2 }],
      [1, { role: 'admin', tenant: 'elsewhere' }],
      [1, { role: 'admin', tenant: '\u0000' }],
      [1, { scope: '' }],
    ];
    return {
      values: {
        device_id: [...kept, ...kept, ...doomed, ...doomed.map((id) => `${id}_new`), 'nobody'],
        doomed_id: doomed,
        command_id: [...commands, crypto.randomUUID()],
        id: (rejected as { id: number }[]).map(({ id }) => String(id)),
        patient_id: ['1', '2', '3', '2147483647'],
        metric_type: ['weight', 'blood_pressure', 'spo2,heart_rate', 'weight,bmi'],
        interval: ['1ms', '30s', '5m', '1h', '7d'],
        aggregate: ['avg', 'min,max', 'avg,min,max,count'],
        expires_in: ['1ms', '30s', '10m', '1h', '1d'],
        topic: kept.map((id) => `devices/${id}/data`),
        username: [...kept, 'mqtt_user'],
        clientid: kept,
        secret: [SECRET],
      },
      cursors,
      authorizations: [
        ...(await Promise.all(
          roles.map(
            async ([weight, claims]) => [weight, `Bearer ${await service.token(claims, '1d')}`] as const,
          ),
        )),
        [1, `Bearer ${await service.token({ role: 'admin' }, '-1m')}`],
        [2, null],
      ],
      brokerSecret: SECRET,
    };
  };

  /** Sends one and remembers what is wrong with the answer. */
  const put = async (target: Service, document: ApiDocument, drawn: Drawn): Promise<void> => {
    const { operation, request, spoil } = drawn;
    let answer: WireAnswer | null = null;
    let complaints: string[];
    try {
      answer = spoil
        ? await sendSpoilt(target.port, request, spoil)
        : await send(agent, target.port, request);
      complaints = answer
        ? complain(document, drawn, answer)
        : ['the connection was closed without an answer'];
    } catch (error) {
      complaints = [`the connection was lost (${String(error)})`];
    }
    const status = String(answer?.status ?? 'none');
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    for (const complaint of complaints) {
      const what = `${operation.operationId} ${status}: ${complaint}`;
      const found = findings.get(what) ?? { what, ...shown(drawn, answer), count: 0 };
      found.count += 1;
      findings.set(what, found);
    }
  };

  const report = (): void => {
    const file = process.env['FUZZ_REPORT'];
    if (file === undefined) return;
    mkdirSync(dirname(file), { recursive: true });
    const seconds = Number(((performance.now() - began) / 1_000).toFixed(1));
    const sorted = Object.fromEntries([...statuses].sort(([one], [other]) => one.localeCompare(other)));
    const summary = {
      seed: SEED,
      requests: REQUESTS,
      seconds,
      statuses: sorted,
      findings: [...findings.values()],
    };
    writeFileSync(file, `${JSON.stringify(summary, null, 2)}\n`);
  };
});

/** As many as wanted, a lot at a time: all at once would take much memory. */
function* draw(source: Arbitrary<Drawn>, wanted: number): Generator<Drawn, undefined> {
  for (let first = 0; first < wanted; first += LOT)
    yield* fc.sample(source, { seed: SEED + first, numRuns: Math.min(LOT, wanted - first) });
}

/** What is wrong with an answer. */
function complain(document: ApiDocument, drawn: Drawn, answer: WireAnswer): string[] {
  const { status, headers, body } = answer;
  const { operation, intact, request } = drawn;
  const mediaType = (headers['content-type'] ?? '').split(';')[0] ?? '';
  if (status >= 500) return ['a server error'];
  if (request.method === 'HEAD' && !drawn.spoil) return body === '' ? [] : ['a body in answer to HEAD'];
  const complaints: string[] = [];
  const isProblem = mediaType === 'application/problem+json';
  if (status >= 400 && isProblem) complaints.push(...complainOfProblem(document, answer));
  else if (status >= 400 && !(status === 403 && operation.path.startsWith('/mqtt/')))
    complaints.push(`${mediaType || 'nothing'} instead of a problem`);
  // Without a name, it was no request: Node has answered.
  const reached = intact && headers['x-request-id'] !== undefined;
  if (status === 304)
    return request.headers.some(([name]) => name.startsWith('if-')) ? complaints : ['304 unasked'];
  const told = reached ? document.complaint(operation, status, mediaType, body) : null;
  if (told !== null) complaints.push(told);
  return complaints;
}

function complainOfProblem(document: ApiDocument, { status, headers, body }: WireAnswer): string[] {
  const mismatch = document.mismatch('/components/schemas/StillRejectedProblem', body);
  // What was no request has no address.
  const addressless = headers['x-request-id'] === undefined && mismatch?.includes("'instance'") === true;
  if (mismatch !== null && !addressless) return [mismatch];
  const problem = JSON.parse(body) as { status: number; code: string; type: string };
  const sound =
    problem.status === status &&
    /^[a-z][a-z0-9_]*$/.test(problem.code) &&
    problem.code !== 'error' &&
    problem.type === `urn:mqtt-service:problem:${problem.code}`;
  return sound ? [] : ['a problem that contradicts itself'];
}

/** As much of both as a report bears. */
function shown({ request, spoil }: Drawn, answer: WireAnswer | null): { request: string; answer: string } {
  const { body, headers, ...rest } = request;
  const safe = headers.map(([name, value]) => [name, name === 'authorization' ? '...' : value.slice(0, 100)]);
  const asked = { ...rest, headers: safe, body: body?.toString().slice(0, 500), spoil };
  return { request: JSON.stringify(asked).slice(0, 1_500), answer: answer?.body.slice(0, 500) ?? '' };
}
