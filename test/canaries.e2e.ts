import { createDatabase, type TestDatabase } from './support/database.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

/** Everything that must not be seen again, by what it is. */
const canaries = new Map<string, string>();

/** A word that stands nowhere but where it was planted. */
function plant(what: string): string {
  const word = `canary${Math.random().toString(36).slice(2, 12)}`;
  canaries.set(what, word);
  return word;
}

const ACCOUNT = `canaries_${Math.random().toString(36).slice(2, 10)}`;
/** Numbers no id or time is likely to contain. */
const SYSTOLIC = 137.59;
const REFUSED_BY_THE_DATABASE = 137.61;
const OUT_OF_RANGE = 98_765.43;

describe('what the service writes at TRACE', () => {
  let database: TestDatabase;
  let proxy: TcpProxy;
  let service: Service;

  beforeAll(async () => {
    database = await createDatabase();
    const password = plant('the password of the database');
    await database.query(`CREATE ROLE ${ACCOUNT} LOGIN SUPERUSER PASSWORD '${password}'`);
    const url = new URL(database.url);
    url.username = ACCOUNT;
    url.password = password;
    proxy = await TcpProxy.to(url.href);
    await proxy.mend();
    service = await Service.start({
      DATABASE_URL: proxy.through(url.href),
      MQTT_PASSWORD: plant('the password at the broker'),
      LOG_LEVEL: 'TRACE',
      COMMANDS_ALLOW_CUSTOM: 'true',
      WS_ALLOW_ANONYMOUS: 'false',
      DATABASE_TIMEOUT: '2s',
    });
  });
  afterAll(async () => {
    await service.remove();
    await proxy.cut();
    await database.drop();
    const admin = await createDatabase();
    await admin.query(`DROP ROLE ${ACCOUNT}`);
    await admin.drop();
  });

  const pressure = (systolic: number, more: object = {}): string =>
    JSON.stringify({ metric_type: 'blood_pressure', systolic, diastolic: 60, ...more });
  const rejections = async (): Promise<number> =>
    Number((await database.query<{ count: string }>('SELECT count(*) FROM rejected_messages'))[0]?.count);

  it('holds no payload, reading, token or password, whatever goes well or wrong', async () => {
    const token = await service.token();
    canaries.set('a good token', token);
    canaries.set("a good token's signature", token.split('.')[2] ?? '');
    const bad = `${plant('a bad token')}.${plant('its claims')}.${plant('its signature')}`;
    for (const value of [SYSTOLIC, REFUSED_BY_THE_DATABASE, OUT_OF_RANGE])
      canaries.set(`the value ${value}`, String(value));

    // Devices and their accounts.
    const { body: registered } = await service.post('/devices/register', {
      device_id: 'cuff_1',
      type: 'blood_pressure_monitor',
      patient_id: 1,
      model: plant('a model'),
      serial_number: plant('a serial number'),
    });
    const { username, password, client_id: clientId } = registered.credentials;
    canaries.set('the password of a device', password as string);
    const device = await service.mqtt({ username, password, clientId });
    const wrong = { username: username as string, clientId: clientId as string };
    await expect(service.mqtt({ ...wrong, password: plant('a wrong password') })).rejects.toThrow();
    await expect(
      service.mqtt({ username: plant('a wrong username'), password: plant('its password') }),
    ).rejects.toThrow();

    // Messages: good, rejected, and refused by the database itself, which quotes the row.
    await database.query(
      `ALTER TABLE device_readings ADD CONSTRAINT planted CHECK (value <> ${REFUSED_BY_THE_DATABASE})`,
    );
    const send = (topic: string, payload: string): Promise<unknown> =>
      device.publishAsync(`devices/cuff_1/${topic}`, payload, { qos: 1 });
    await send('data', pressure(SYSTOLIC, { note: plant('a further field') }));
    await send('data', `{"${plant('a key of what is no JSON')}: ${plant('what is no JSON')}`);
    await send('data', pressure(OUT_OF_RANGE, { unit: plant('a unit') }));
    await send('data', pressure(REFUSED_BY_THE_DATABASE, { note: plant('beside what is refused') }));
    await send('data', JSON.stringify({ metric_type: plant('a metric type'), value: SYSTOLIC }));
    await send('status', JSON.stringify({ status: plant('a status'), session: plant('a session') }));
    await send('responses', JSON.stringify({ command_id: plant('a command id'), result: plant('a result') }));
    await until('six rejections', async () => (await rejections()) >= 6);

    // Commands and answers to them.
    const parameters = { note: plant('a parameter') };
    const { body: command } = await service.post('/devices/cuff_1/command', { command: 'start', parameters });
    await send(
      'responses',
      JSON.stringify({
        command_id: command.command_id as string,
        status: 'failed',
        result: { note: plant("an answer's result") },
        error: plant("an answer's error"),
      }),
    );
    await database.query(`ALTER TABLE device_commands ADD CONSTRAINT planted CHECK (command <> 'refused')`);
    const refused = await service.post('/devices/cuff_1/command', {
      command: 'refused',
      parameters: { note: plant('a parameter of what the database refuses') },
    });
    expect(refused.status).toBe(500);

    // REST, with all that a request may carry.
    for (const headers of [
      { authorization: `Bearer ${bad}` },
      { authorization: `Basic ${plant('a basic authorization')}` },
      { authorization: `Bearer ${token}`, cookie: plant('a cookie'), 'x-request-id': 'canaries-1' },
    ]) {
      await service.get(`/devices/cuff_1/data?token=${plant('a token in a query')}`, headers);
      await service.get(`/devices/cuff_1/data`, { ...headers, accept: 'text/csv' });
    }
    for (const body of [`{"${plant('a broken body')}`, { [plant('an unknown field')]: plant('its value') }])
      expect((await service.post('/devices/register', body)).status).toBe(400);

    // The WebSocket.
    const watcher = await service.live(`?token=${token}`);
    await watcher.hear('connected');
    watcher.say(plant('what is no message'));
    watcher.say({ event: plant('an unknown event'), data: { token } });
    watcher.say({ event: 'subscribe', data: { events: [plant('an event')] } });
    watcher.say({ event: 'subscribe' });
    await watcher.hear('subscribed');
    for (const query of [`?token=${bad}`, '']) {
      const stranger = await service.live(query);
      stranger.say({ event: 'authenticate', data: { token: bad } });
      expect(await stranger.closed()).toBe(4401);
    }
    watcher.say(`{"event":"ping","data":"${'x'.repeat(70_000)}${plant('a frame too large')}"}`);
    expect(await watcher.closed()).toBe(1009);

    // Failures within: what is unforeseen, and a database that goes away and comes back.
    await database.query('ALTER TABLE device_readings RENAME TO device_readings_away');
    const request = service.read('/devices/cuff_1/data');
    await send('data', pressure(SYSTOLIC, { note: plant('what has to wait') }));
    expect((await request).status).toBe(500);
    await until('the inbox to say that it waits', () => service.log.includes('Messages wait'));
    await database.query('ALTER TABLE device_readings_away RENAME TO device_readings');
    await proxy.cut();
    await send('data', pressure(SYSTOLIC, { note: plant('what has to wait for the database') }));
    expect((await service.read('/devices/cuff_1/data')).status).toBe(503);
    await service.post('/devices/cuff_1/command', { command: 'away', parameters });
    await proxy.mend();
    await service.untilReady();
    await until('the way back', async () => (await service.read('/devices/cuff_1/data')).status === 200);

    await device.endAsync();
    await service.end();

    // It has written of all that went wrong, or there would be nothing to find.
    for (const line of [
      'The database refused a message',
      'POST /devices/cuff_1/command failed',
      'GET /devices/cuff_1/data failed',
      'Stopped',
    ])
      expect(service.log).toContain(line);
    const seen = [...canaries].filter(([, word]) => service.log.includes(word)).map(([what]) => what);
    expect(seen).toEqual([]);
    expect(canaries.size).toBeGreaterThan(40);
  });
});
