import {
  brokerKindsHere,
  BrokerStage,
  closed,
  loginOf,
  OTHER,
  OWN,
  type Login,
} from './support/broker-stage.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

describe.each(brokerKindsHere())('a device at %s', (kind) => {
  let stage: BrokerStage;
  beforeAll(async () => {
    stage = await BrokerStage.of(kind);
  });
  afterAll(() => stage.end());

  it.each([OTHER, 'hduce_mqtt_service', 'hduce_mqtt_service-out-1', 'anything'])(
    'takes nobody’s place under the client id %s',
    async (clientId) => {
      const other = await stage.device(OTHER);
      const attempt = await stage.device(OWN, { clientId }).catch(() => null);
      if (stage.guarded) expect(attempt).toBeNull();
      await attempt?.endAsync(true);
      await stage.settle();
      expect(other.connected).toBe(true);
      expect(stage.service.log).not.toMatch(/Connection (taken|lost)/);
      expect((await stage.service.get('/health/ready')).status).toBe(200);
      await other.endAsync();
    },
  );

  it('needs its own password', async () => {
    const login = stage.logins.get(OWN);
    for (const attempt of [
      { ...login, password: 'wrong' },
      { ...login, password: stage.logins.get(OTHER)?.password },
      { ...login, username: OTHER },
    ])
      await expect(stage.connect(attempt as Login)).rejects.toThrow();
  });

  it('does not get in as the service where the service does', async () => {
    const login = { ...stage.logins.get(OWN), clientId: 'hduce_mqtt_service' };
    await expect(stage.service.mqtt(login)).rejects.toThrow();
  });

  if (kind === 'Mosquitto with the shipped access rules') return;

  it('is locked out at once when its credentials are replaced', async () => {
    const before = await stage.device(OTHER);
    await before.subscribeAsync(`devices/${OTHER}/commands`, { qos: 1 });
    const dropped = closed(before);
    const { status, body } = await stage.service.post(`/devices/${OTHER}/credentials`, {});
    expect({ status, username: body.username, clientId: body.client_id }).toEqual({
      status: 200,
      username: OTHER,
      clientId: OTHER,
    });
    await dropped;
    await expect(stage.device(OTHER)).rejects.toThrow();
    stage.logins.set(OTHER, loginOf(body));
    const after = await stage.device(OTHER);
    await after.publishAsync(`devices/${OTHER}/data`, '{"again":1}', { qos: 1 });
    await stage.hears(`devices/${OTHER}/data {"again":1}`);
    await after.endAsync();
  });

  it('has one good password after many rotations at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => stage.service.post(`/devices/${OTHER}/credentials`, {})),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    const tried = await Promise.allSettled(
      answers.map(async ({ body }) => (await stage.connect(loginOf(body))).endAsync()),
    );
    expect(tried.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('is locked out at once when it is decommissioned', async () => {
    const { body } = await stage.service.register('gone_1', 'weight_scale');
    const login = loginOf(body.credentials);
    const device = await stage.connect(login);
    const dropped = closed(device);
    expect((await stage.service.delete('/devices/gone_1')).status).toBe(204);
    await dropped;
    await expect(stage.connect(login)).rejects.toThrow();
  });

  it('has an account of its own, of twenty registered at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => stage.service.register(`many_${i}`, 'weight_scale')),
    );
    for (const { status, body } of answers) {
      expect(status).toBe(201);
      await (await stage.connect(loginOf(body.credentials))).endAsync();
    }
  });
});

const describeWithDynsec = Mosquitto.hasDynsec ? describe : describe.skip;

describeWithDynsec('accounts in dynamic security', () => {
  let stage: BrokerStage;
  beforeAll(async () => {
    stage = await BrokerStage.of('Mosquitto with dynamic security');
  });
  afterAll(() => stage.end());

  const control = async (
    ...commands: object[]
  ): Promise<{ error?: string; data: Record<string, { roles: unknown }> }[]> => {
    const admin = await stage.service.mqtt({ protocolVersion: 5 });
    const answer = new Promise<{ responses: { error?: string; data: Record<string, { roles: unknown }> }[] }>(
      (resolve) => admin.on('message', (_topic, payload) => resolve(JSON.parse(payload.toString()))),
    );
    await admin.subscribeAsync('$CONTROL/dynamic-security/v1/response', { qos: 1 });
    await admin.publishAsync('$CONTROL/dynamic-security/v1', JSON.stringify({ commands }), { qos: 1 });
    const { responses } = await answer;
    await admin.endAsync();
    return responses;
  };
  const register = async (id: string): Promise<Login> => {
    const login = loginOf((await stage.service.register(id, 'weight_scale')).body.credentials);
    stage.logins.set(id, login);
    return login;
  };
  const works = async (id: string): Promise<boolean> => {
    const device = await stage.device(id);
    await device.publishAsync(`devices/${id}/data`, `{"from":"${id}"}`, { qos: 1 });
    await stage.hears(`devices/${id}/data {"from":"${id}"}`);
    const refused = await device.subscribeAsync('#').then(
      () => false,
      () => true,
    );
    await device.endAsync();
    return refused;
  };

  it('that differ from the registry are repaired at the start, and foreign ones left alone', async () => {
    for (const id of ['disabled_1', 'opened_1', 'unbound_1', 'roleless_1', 'lost_1', 'extra_1'])
      await register(id);
    const answers = await control(
      {
        command: 'createRole',
        rolename: 'nurse',
        acls: [{ acltype: 'subscribePattern', topic: '#', allow: true }],
      },
      { command: 'createClient', username: 'dashboard', password: 'p', roles: [{ rolename: 'nurse' }] },
      { command: 'disableClient', username: 'disabled_1' },
      {
        command: 'addRoleACL',
        rolename: 'device:opened_1',
        acltype: 'subscribePattern',
        topic: '#',
        allow: true,
      },
      { command: 'addClientRole', username: 'unbound_1', rolename: 'nurse' },
      { command: 'setClientId', username: 'unbound_1', clientid: 'another' },
      // Not deleteRole: 2.0.11 crashes when a role is deleted that an account has.
      { command: 'removeClientRole', username: 'roleless_1', rolename: 'device:roleless_1' },
      { command: 'deleteClient', username: 'lost_1' },
      { command: 'setDefaultACLAccess', acls: [{ acltype: 'subscribe', allow: true }] },
      { command: 'createGroup', groupname: 'strangers', roles: [{ rolename: 'nurse' }] },
      { command: 'setAnonymousGroup', groupname: 'strangers' },
    );
    expect(answers.map(({ error }) => error)).toEqual(Array(11).fill(undefined));
    await stage.service.end();
    await stage.database.query(
      "UPDATE medical_devices SET decommissioned_at = CURRENT_TIMESTAMP WHERE device_id = 'extra_1'",
    );
    await stage.service.launch();
    await until('the repairs', () => stage.service.log.includes('repairs made'));
    for (const id of ['disabled_1', 'opened_1', 'unbound_1', 'roleless_1'])
      expect(await works(id)).toBe(true);
    const [gone, role, dashboard, strangers] = await control(
      { command: 'getClient', username: 'extra_1' },
      { command: 'getRole', rolename: 'device:extra_1' },
      { command: 'getClient', username: 'dashboard' },
      { command: 'getGroup', groupname: 'strangers' },
    );
    expect([gone?.error, role?.error]).toEqual(['Client not found', 'Role not found']);
    expect(dashboard?.data['client']?.roles).toEqual([{ rolename: 'nurse' }]);
    expect(strangers?.data['group']?.roles).toEqual([]);
    expect(stage.service.log).toContain('gave clients without an account the roles nurse');
    await until('the log to name the lost', () =>
      /1 devices have no account.*lost_1/.test(stage.service.log),
    );
    const { body } = await stage.service.post('/devices/lost_1/credentials', {});
    stage.logins.set('lost_1', loginOf(body));
    expect(await works('lost_1')).toBe(true);
  });

  it('are not taken from others who have the same name', async () => {
    const answer = await stage.service.register('dashboard', 'weight_scale');
    expect([answer.status, answer.body.code]).toEqual([409, 'broker_account_taken']);
    expect((await stage.service.read('/devices/dashboard')).status).toBe(404);
    await (await stage.connect({ username: 'dashboard', password: 'p', clientId: 'x' })).endAsync();
  });

  it('are not promised while the broker is away, and revoked when it is back', async () => {
    const kept = await register('kept_1');
    const gone = await register('gone_2');
    await stage.mosquitto?.stop();
    const registered = await stage.service.register('early_1', 'weight_scale');
    expect([registered.status, registered.body.code]).toEqual([503, 'broker_unavailable']);
    expect((await stage.service.read('/devices/early_1')).status).toBe(404);
    const rotated = await stage.service.post('/devices/kept_1/credentials', {});
    expect([rotated.status, rotated.body.code]).toEqual([503, 'broker_unavailable']);
    const deleted = await stage.service.delete('/devices/gone_2');
    expect([deleted.status, deleted.body.code]).toEqual([503, 'broker_unavailable']);
    expect((await stage.service.read('/devices/gone_2')).body.decommissioned_at).not.toBeNull();

    await stage.mosquitto?.start();
    await until('the account to be revoked', async () => {
      const [answer] = await control({ command: 'getClient', username: 'gone_2' });
      return answer?.error === 'Client not found';
    });
    await expect(stage.connect(gone)).rejects.toThrow();
    await (await stage.connect(kept)).endAsync();
    await until(
      'a registration',
      async () => (await stage.service.register('early_1', 'weight_scale')).status === 201,
    );
    expect((await stage.service.delete('/devices/gone_2')).status).toBe(204);
  });
});

describe('a broker that asks over HTTP', () => {
  const SECRET = 'a-secret-of-the-broker-with-more-than-32-bytes';
  let database: TestDatabase;
  let service: Service;
  let login: Login;

  beforeAll(async () => {
    database = await createDatabase();
    // Nobody listens there: the questions are asked by hand.
    service = await Service.prepare({
      DATABASE_URL: database.url,
      MQTT_BROKER_HOST: '127.0.0.1',
      MQTT_PASSWORD: 'password-of-the-service',
      BROKER_ACCESS: 'http',
      MQTT_HTTP_AUTH_SECRET: SECRET,
    });
    await service.launch();
    const { body } = await until('a registration', async () => {
      const answer = await service.register(OWN, 'weight_scale');
      return answer.status === 201 && answer;
    });
    login = loginOf(body.credentials);
    await service.register(OTHER, 'weight_scale');
  });
  afterAll(async () => {
    await service.remove();
    await database.drop();
  });

  /** As EMQX asks. @returns its result. */
  const emqx = async (path: 'auth' | 'acl', question: object): Promise<string> => {
    const { status, body } = await service.post(`/mqtt/${path}`, question, {
      authorization: `Bearer ${SECRET}`,
    });
    expect(status).toBe(200);
    expect(body.ok).toBe(body.result === 'allow');
    return body.result as string;
  };
  /** As mosquitto-go-auth asks, which then looks at the status, or at `ok`, as it is told. */
  const goAuth = async (path: 'auth' | 'acl', question: object): Promise<boolean> => {
    const { status, body } = await service.post(`/mqtt/${path}?secret=${SECRET}`, question, {
      authorization: '',
    });
    expect(status).toBe(body.ok ? 200 : 403);
    return body.ok as boolean;
  };
  const asked = ({ username, password, clientId }: Login): object => ({
    username,
    password,
    clientid: clientId,
  });

  it('lets devices and the service connect, with their own password and client id', async () => {
    for (const [question, allowed] of [
      [asked(login), true],
      [asked({ ...login, password: 'wrong' }), false],
      [asked({ ...login, clientId: OTHER }), false],
      [asked({ ...login, username: OTHER, clientId: OTHER }), false],
      [asked({ ...login, clientId: 'hduce_mqtt_service' }), false],
      [{ username: 'mqtt_user', password: 'password-of-the-service', clientid: 'hduce_mqtt_service' }, true],
      [{ username: 'mqtt_user', password: 'mqtt_password', clientid: 'hduce_mqtt_service' }, false],
      [{ username: '', password: '', clientid: '' }, false],
      [{ username: { $ne: '' }, password: ['x'], clientid: null }, false],
      [{}, false],
      [[], false],
    ] as const) {
      expect(await emqx('auth', question)).toBe(allowed ? 'allow' : 'deny');
      expect(await goAuth('auth', question)).toBe(allowed);
    }
  });

  it.each([
    ['publish', `devices/${OWN}/data`, true],
    ['publish', `devices/${OWN}/status`, true],
    ['publish', `devices/${OWN}/responses`, true],
    ['subscribe', `devices/${OWN}/commands`, true],
    ['publish', `devices/${OTHER}/data`, false],
    ['publish', `devices/${OWN}/commands`, false],
    ['publish', 'events/x', false],
    ['publish', '$CONTROL/dynamic-security/v1', false],
    ['publish', '$SYS/x', false],
    ['subscribe', `devices/${OTHER}/commands`, false],
    ['subscribe', 'devices/+/commands', false],
    ['subscribe', '#', false],
    ['subscribe', '$SYS/#', false],
    ['subscribe', '$share/hduce_mqtt_service/devices/+/data', false],
    ['subscribe', `devices/${OWN}/data`, false],
  ])('may a device %s %s: %s', async (action, topic, allowed) => {
    const who = { username: OWN, clientid: OWN, topic };
    expect(await emqx('acl', { ...who, action })).toBe(allowed ? 'allow' : 'deny');
    for (const acc of action === 'publish' ? [2] : [1, 4])
      expect(await goAuth('acl', { ...who, acc })).toBe(allowed);
    expect(await goAuth('acl', { ...who, acc: 3 })).toBe(false);
    expect(await emqx('acl', { ...who, action, clientid: OTHER })).toBe('deny');
    expect(await emqx('acl', { ...who, action: 'all' })).toBe('deny');
    expect(await emqx('acl', { ...who, action, username: 'mqtt_user' })).toBe('allow');
    expect(await emqx('acl', { ...who, action, username: 'nobody', clientid: 'nobody' })).toBe('deny');
  });

  it('has those it is to refuse written down, with the address it tells', async () => {
    const ask = { ...asked({ ...login, password: 'wrong' }), peerhost: '192.0.2.7' };
    expect(await emqx('auth', ask)).toBe('deny');
    expect(await goAuth('auth', { ...ask, peerhost: 'nowhere' })).toBe(false);
    const sources = await until('the entries', async () => {
      const rows = await database.query<{ source: string | null }>(
        `SELECT source FROM audit_log WHERE action = 'connectDevice' AND device_id = $1 AND target = $1`,
        [OWN],
      );
      return rows.length >= 2 && rows.map(({ source }) => source);
    });
    expect(new Set(sources)).toEqual(new Set([null, '192.0.2.7']));
  });

  it('has to say the secret', async () => {
    for (const headers of [
      { authorization: '' },
      { authorization: 'Bearer wrong' },
      { authorization: `Basic ${SECRET}` },
      {},
    ])
      for (const path of [
        '/mqtt/auth',
        '/mqtt/acl',
        '/mqtt/auth?secret=wrong',
        `/mqtt/acl?secret=&secret=${SECRET}`,
      ]) {
        const { status, body } = await service.post(path, asked(login), headers);
        expect({ status, code: body.code }).toEqual({ status: 401, code: 'unauthorized' });
      }
  });

  it('is answered however often it asks; who guesses its secret is not', async () => {
    const limited = await Service.prepare({
      DATABASE_URL: database.url,
      MQTT_BROKER_HOST: '127.0.0.1',
      BROKER_ACCESS: 'http',
      MQTT_HTTP_AUTH_SECRET: SECRET,
      RATE_LIMIT_PER_IP: '3',
      RATE_LIMIT_PER_TOKEN: '2',
    });
    await limited.launch();
    const isAnswered = async (): Promise<boolean> =>
      (await limited.post('/mqtt/auth', asked(login), { authorization: `Bearer ${SECRET}` })).status === 200;
    await until('its database', isAnswered);
    const asks = async (path: string, secret: string): Promise<number[]> => {
      const statuses = [];
      for (let time = 0; time < 5; time += 1) {
        const headers = { authorization: secret === '' ? '' : `Bearer ${secret}` };
        statuses.push((await limited.post(path, asked({ ...login, password: 'wrong' }), headers)).status);
      }
      return statuses;
    };
    for (const path of ['/mqtt/auth', '/mqtt/acl'])
      expect(await asks(path, SECRET)).toEqual([200, 200, 200, 200, 200]);
    expect(await asks(`/mqtt/auth?secret=${SECRET}`, '')).toEqual([403, 403, 403, 403, 403]);
    expect(await asks('/mqtt/auth?secret=guess', '')).toEqual([401, 401, 401, 429, 429]);
    expect(await asks('/mqtt/auth', SECRET)).toEqual([200, 200, 200, 200, 200]);
    // The secret is good for the broker's questions only.
    expect((await limited.get('/devices', { authorization: `Bearer ${SECRET}` })).status).toBe(429);
    await limited.remove();
  });

  it.each(['constructor', '__proto__', 'toString', '5', 5, -1])(
    'hears no to the access %j, which there is not',
    async (acc) => {
      const question = { username: OWN, clientid: OWN, topic: `devices/${OWN}/data`, acc };
      expect(await goAuth('acl', question)).toBe(false);
    },
  );

  it('hears no at its next question once credentials are replaced, or the device is decommissioned', async () => {
    const { body } = await service.post(`/devices/${OWN}/credentials`, {});
    expect(await emqx('auth', asked(login))).toBe('deny');
    login = loginOf(body);
    expect(await emqx('auth', asked(login))).toBe('allow');
    const question = { username: OWN, clientid: OWN, topic: `devices/${OWN}/data`, action: 'publish' };
    expect(await emqx('acl', question)).toBe('allow');
    expect((await service.delete(`/devices/${OWN}`)).status).toBe(204);
    expect(await emqx('auth', asked(login))).toBe('deny');
    expect(await emqx('acl', question)).toBe('deny');
  });

  it('finds the routes only where it is to ask', async () => {
    expect((await service.get('/openapi.json')).body.paths).toHaveProperty('/mqtt/auth');
  });
});
