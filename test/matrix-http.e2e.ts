import { ROLE_SCOPES, SCOPES } from '#kernel';
import {
  CALLERS,
  DEVICE_NAMES,
  DEVICES,
  headersOf,
  maySee,
  ROLES,
  type Caller,
  type DeviceName,
} from './support/callers.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { agent, ask, METHODS, placesOf, questionsOf, summary, type Place } from './support/http-questions.js';
import { FOLDERS, RULES, type Subject } from './support/http-rules.js';
import { routeTable, TELL_ROUTES } from './support/route-table.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const BROKER_SECRET = 'a-secret-of-the-broker-with-more-than-32-bytes';

/** The devices of any caller that a text names. */
const named = (body: string): DeviceName[] => {
  const names = new Set([...body.matchAll(/\b([a-z]+)_\d/g)].map(([, name]) => name));
  return DEVICE_NAMES.filter((name) => names.has(name));
};

/** What is wrong with the answers to all that a caller can ask, method by method. */
async function findings(
  service: Service,
  caller: Caller,
  places: readonly Place[],
  asked: { count: number },
): Promise<readonly string[]> {
  const wrong: string[] = [];
  const authorization = await headersOf(caller);
  for (const method of METHODS) {
    const questions = questionsOf(caller, method, places);
    asked.count += questions.length;
    await Promise.all(
      questions.map(async (question) => {
        const { rule, subject, right } = question;
        const { status, body } = await ask(service, question, authorization);
        const got = method === 'HEAD' ? String(status) : summary(status, body);
        const what = `${method} ${question.path} (${question.accept})`;
        if (got !== (method === 'HEAD' ? right.slice(0, 3) : right))
          wrong.push(`${what}: ${got} instead of ${right}`);
        if (method === 'HEAD' || status >= 400 || rule?.tells === 'anything') return;
        const visible = DEVICE_NAMES.filter((name) => caller.grant && maySee(caller.grant, DEVICES[name]));
        const due =
          rule?.tells === 'of all it may see'
            ? visible
            : subject
              ? named(body).filter((name) => name === subject.device)
              : [];
        if (named(body).join() !== due.join())
          wrong.push(`${what}: shows ${named(body).join()} instead of ${due.join()}`);
      }),
    );
  }
  return wrong;
}

describe('every role at every route with every method', () => {
  let database: TestDatabase;
  let service: Service;
  /** In production, with the routes for a broker that asks. */
  let asking: Service;
  const subjects = new Map<string, readonly Subject[]>();
  const routes: string[] = [];
  const asked = { count: 0 };

  beforeAll(async () => {
    database = await createDatabase();
    const common = { DATABASE_URL: database.url, ...TELL_ROUTES };
    service = await Service.start(common);
    asking = await Service.prepare({
      ...common,
      NODE_ENV: 'production',
      ALLOW_INSECURE_TRANSPORT: 'true',
      // Nobody listens there.
      MQTT_BROKER_HOST: '127.0.0.1',
      MQTT_USERNAME: 'service',
      MQTT_PASSWORD: 'password-of-the-service',
      BROKER_ACCESS: 'http',
      MQTT_HTTP_AUTH_SECRET: BROKER_SECRET,
    });
    await asking.launch();
    for (const each of [service, asking]) routes.push(...(await routeTable(each)).routes);
    await prepareSubjects();
  });
  afterAll(async () => {
    agent.destroy();
    await Promise.all([service.remove(), asking.remove()]);
    await database.drop();
  });

  /** For each caller devices of its own, each with a reading, a command that waits and a message that was rejected. */
  async function prepareSubjects(): Promise<void> {
    const device = await service.mqtt();
    const tokens: Record<string, string> = {};
    for (const tenant of ['default', 'north'])
      tokens[tenant] = await service.token({ role: 'admin', tenant });
    const post = async (tenant: string, path: string, body: object) =>
      service.post(path, body, { authorization: `Bearer ${tokens[tenant]}` });
    const commands = new Map<string, string>();
    const webhooks = new Map<string, string>();
    const ids = CALLERS.flatMap((_caller, index) =>
      DEVICE_NAMES.map((name) => [name, `${name}_${index}`] as const),
    );
    await Promise.all(
      ids.map(async ([name, deviceId]) => {
        const { tenant, patientId } = DEVICES[name];
        const details = { device_id: deviceId, type: 'weight_scale', patient_id: patientId };
        await post(tenant, '/devices/register', details);
        const { body } = await post(tenant, `/devices/${deviceId}/command`, { command: 'tare' });
        commands.set(deviceId, body.command_id);
        // Nobody listens there, and nothing is to be sent.
        const order = { url: 'https://receiver.invalid/', device_ids: [deviceId], active: false };
        webhooks.set(deviceId, (await post(tenant, '/webhooks', order)).body.webhook_id);
        device.publish(`devices/${deviceId}/data`, '{"metric_type":"weight","value":"?"}', { qos: 1 });
      }),
    );
    const rejections = await until('the quarantine', async () => {
      const rows = await database.query<{ id: string; device_id: string }>(
        'SELECT id, device_id FROM rejected_messages',
      );
      return rows.length === ids.length && new Map(rows.map((row) => [row.device_id, row.id]));
    });
    await device.endAsync();
    // Not over MQTT: a device that is heard of is sent the command that should wait.
    await database.query(
      `INSERT INTO device_readings (device_id, metric_type, value, unit, timestamp)
       SELECT device_id, 'weight', 70, 'kg', CURRENT_TIMESTAMP FROM medical_devices`,
    );
    CALLERS.forEach(({ name: caller }, index) => {
      subjects.set(
        caller,
        DEVICE_NAMES.map((name) => {
          const deviceId = `${name}_${index}`;
          const [commandId = '', rejectionId = ''] = [commands.get(deviceId), rejections.get(deviceId)];
          const webhookId = webhooks.get(deviceId) ?? '';
          return { device: name, owner: DEVICES[name], deviceId, commandId, rejectionId, webhookId };
        }),
      );
    });
  }

  const routesFor = (lock: 'the broker' | 'tokens'): string[] =>
    Object.keys(RULES).filter((route) => (RULES[route]?.lock === 'the broker') === (lock === 'the broker'));

  it('has a rule for every route, and a route for every rule', () => {
    const folders = FOLDERS.map((folder) => `USE ${folder}`);
    expect([...new Set(routes)].sort()).toEqual([...Object.keys(RULES), ...folders].sort());
  });

  it('describes every route but those that are marked', async () => {
    const described = new Set<string>();
    for (const each of [service, asking]) {
      const { paths } = (await each.get('/openapi.json')).body;
      for (const [path, methods] of Object.entries<object>(paths))
        for (const method of Object.keys(methods))
          described.add(`${method.toUpperCase()} ${path.replaceAll(/{(\w+)}/g, ':$1')}`);
    }
    const documented = Object.keys(RULES).filter((route) => !RULES[route]?.undocumented);
    expect([...described].sort()).toEqual(documented.sort());
  });

  it('has a rule for every role and every scope', () => {
    const own = (scopes: readonly string[]): string[] => [...scopes].sort();
    const measured = Object.entries(ROLE_SCOPES).map(([role, scopes]) => [role, own(scopes)]);
    expect(Object.fromEntries(measured)).toEqual(
      Object.fromEntries(Object.entries(ROLES).map(([role, scopes]) => [role, own(scopes)])),
    );
    expect(own(SCOPES)).toEqual(own(ROLES.admin));
  });

  it.each(CALLERS)('answers $name as the contract says', async (caller) => {
    const places = placesOf(routesFor('tokens'), subjects.get(caller.name) ?? []);
    expect(await findings(service, caller, places, asked)).toEqual([]);
    expect(await findings(asking, caller, placesOf(routesFor('the broker'), []), asked)).toEqual([]);
  });

  it('lets the broker ask what it is there for, and nothing else', async () => {
    const broker: Caller = {
      name: 'the broker',
      token: () => Promise.resolve(BROKER_SECRET),
      scheme: 'Bearer',
      grant: null,
    };
    const authorization = await headersOf(broker);
    for (const question of questionsOf(broker, 'POST', placesOf(routesFor('the broker'), [])))
      expect((await ask(asking, question, authorization)).status).toBe(200);
    const others = placesOf(routesFor('tokens'), subjects.get('no token') ?? []).filter(
      ({ path }) => !path.startsWith('/health'),
    );
    expect(await findings(asking, broker, others, asked)).toEqual([]);
  });

  it('in production tells in detail how it is only with a valid token', async () => {
    const told: string[] = [];
    for (const caller of CALLERS) {
      const { body } = await asking.get('/health/detailed', await headersOf(caller));
      if ('details' in body) told.push(caller.name);
    }
    expect(told).toEqual(CALLERS.filter(({ grant }) => grant).map(({ name }) => name));
  });

  it.each(FOLDERS)('serves files below %s and takes none', async (folder) => {
    const file = `${folder}/swagger-ui.css`;
    for (const method of METHODS) {
      const question = { method, path: file, subject: null, rule: undefined, accept: '*/*', right: '' };
      const { status, body } = await ask(service, question, {});
      expect([method, method === 'HEAD' ? String(status) : summary(status, body)]).toEqual([
        method,
        method === 'GET' || method === 'HEAD' ? '200' : '404 route_not_found',
      ]);
    }
  });

  it('has tried what it says', () => {
    expect(asked.count).toBeGreaterThan(CALLERS.length * METHODS.length * Object.keys(RULES).length);
    process.stderr.write(`${asked.count}\n`);
  });
});
