import { join } from 'node:path';
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt';
import { brokersHere, startBroker, type BrokerUnderTest } from './support/brokers.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { FakeDevices, type Manners } from './support/fake-device.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed) process.stderr.write('Dispatch not tested: Mosquitto is not installed\n');

/** As many as a device may be sent without having answered. */
const IN_FLIGHT = 10;

interface LedgerEntry {
  readonly command_id: string;
  readonly status: string;
  readonly attempts: number;
}

/** Runs the service so that it kills itself at its first command, as SIGKILL would. */
const killedAt = (place: string): Record<string, string> => ({
  KILL_AT: place,
  NODE_OPTIONS: `--import ${join(process.cwd(), 'test', 'support', 'kill-at.mjs')}`,
});

/** A device's ledger, oldest first. */
const ledgerOf = async (service: Service, deviceId: string): Promise<LedgerEntry[]> =>
  (await service.read(`/devices/${deviceId}/commands?limit=1000`)).body.data.reverse();

const order = async (service: Service, deviceId: string, more: object = {}): Promise<LedgerEntry> => {
  const answer = await service.post(`/devices/${deviceId}/command`, { command: 'measure_now', ...more });
  expect(answer.status).toBe(202);
  return answer.body;
};

/** One after the other. @returns their ids. */
const orders = async (service: Service, deviceId: string, count: number): Promise<string[]> => {
  const ids: string[] = [];
  for (let index = 0; index < count; index += 1) ids.push((await order(service, deviceId)).command_id);
  return ids;
};

const untilAll = (service: Service, deviceId: string, status: string): Promise<unknown> =>
  until(`all commands of ${deviceId} to be ${status}`, async () =>
    (await ledgerOf(service, deviceId)).every((command) => command.status === status),
  );

/** Until the service knows. */
const online = async (service: Service, devices: FakeDevices, deviceId: string): Promise<void> => {
  await devices.online(deviceId);
  await until(
    `${deviceId} to be online`,
    async () => (await service.read(`/devices/${deviceId}`)).body.status === 'online',
  );
};

describe.each(brokersHere())('what a device has in flight by way of %s', (kind) => {
  let database: TestDatabase;
  let broker: BrokerUnderTest;
  let service: Service;
  let devices: FakeDevices;

  beforeAll(async () => {
    [database, broker] = await Promise.all([createDatabase(), startBroker(kind)]);
    service = await Service.start({ DATABASE_URL: database.url, ...broker.env });
    devices = await FakeDevices.of(service);
    for (const id of ['pump_1', 'pump_2', 'pump_3']) await service.register(id, 'pulse_oximeter');
  });
  afterAll(async () => {
    await devices.end();
    await service.remove();
    await broker.stop();
    await database.drop();
  });

  it('is no more than 10 commands: the next goes out as they are answered, in order', async () => {
    const ids = await orders(service, 'pump_1', IN_FLIGHT + 5);
    await devices.online('pump_1');
    await until('as many as may be', () => devices.idsOf('pump_1').length === IN_FLIGHT);
    // Its answer comes when it has been tried to send it.
    const last = await order(service, 'pump_1');
    expect(last.status).toBe('queued');
    expect(devices.idsOf('pump_1')).toEqual(ids.slice(0, IN_FLIGHT));

    await devices.say('pump_1', 'responses', { command_id: ids[3], status: 'acknowledged' });
    await until('the next', () => devices.idsOf('pump_1').length === IN_FLIGHT + 1);
    await devices.say('pump_1', 'responses', { command_id: ids[0], status: 'completed' });
    await devices.say('pump_1', 'responses', { command_id: ids[1], status: 'failed' });
    // Again: what has made room once makes none any more.
    await devices.say('pump_1', 'responses', { command_id: ids[1], status: 'failed' });
    await devices.say('pump_1', 'responses', { command_id: ids[3], status: 'completed' });
    await until('two more', () => devices.idsOf('pump_1').length === IN_FLIGHT + 3);
    const statuses = await until('the ledger', async () => {
      const found = (await ledgerOf(service, 'pump_1')).map(({ status }) => status);
      return found[IN_FLIGHT + 2] === 'sent' && found;
    });
    expect(statuses.slice(IN_FLIGHT + 3)).toEqual(['queued', 'queued', 'queued']);
    expect(devices.idsOf('pump_1')).toEqual(ids.slice(0, IN_FLIGHT + 3));
  });

  it('makes room when its time is over', async () => {
    const hasty: string[] = [];
    for (let index = 0; index < IN_FLIGHT; index += 1)
      hasty.push((await order(service, 'pump_2', { expires_in: '3s' })).command_id);
    const patient = await orders(service, 'pump_2', 2);
    await devices.online('pump_2');
    await until('the last', () => devices.idsOf('pump_2').length === IN_FLIGHT + 2);
    expect(devices.idsOf('pump_2')).toEqual([...hasty, ...patient]);
    await until('the end of all that had little time', async () =>
      (await ledgerOf(service, 'pump_2')).slice(0, IN_FLIGHT).every(({ status }) => status === 'expired'),
    );
  });

  it('is told of once, status by status, whatever the device repeats', async () => {
    const watcher = await service.live(`?token=${await service.token()}`);
    await watcher.hear('connected');
    const heard: { type: string; data: Record<string, unknown> }[] = [];
    const listener = await service.mqtt();
    listener.on('message', (_topic, payload) =>
      heard.push(JSON.parse(payload.toString('utf8')) as (typeof heard)[number]),
    );
    await listener.subscribeAsync('events/+/pump_3', { qos: 1 });
    await devices.online('pump_3');
    await watcher.hear('device.connected', (data) => data['device_id'] === 'pump_3');
    const { command_id } = await order(service, 'pump_3');
    for (const status of ['acknowledged', 'acknowledged', 'completed', 'acknowledged', 'completed', 'failed'])
      await devices.say('pump_3', 'responses', { command_id, status });
    // Taken in after all of them.
    const [marker = ''] = await orders(service, 'pump_3', 1);
    await devices.say('pump_3', 'responses', { command_id: marker, status: 'failed' });
    await watcher.hear('command.failed');
    await until('the broker to be told', () => heard.some(({ type }) => type === 'command.failed'));
    const told = ['queued', 'sent', 'acknowledged', 'completed'].map((status) => `command.${status}`);
    const onSocket = watcher.messages.filter(({ data }) => data['command_id'] === command_id);
    expect(onSocket.map(({ event }) => event)).toEqual(told);
    expect(heard.filter(({ data }) => data['command_id'] === command_id).map(({ type }) => type)).toEqual(
      told,
    );
    watcher.end();
    await listener.endAsync();
  });
});

describeWithMosquitto('commands when something is away', () => {
  let database: TestDatabase;
  let mosquitto: Mosquitto;

  beforeAll(async () => {
    [database, mosquitto] = await Promise.all([createDatabase(), Mosquitto.prepare()]);
    await mosquitto.start();
  });
  afterAll(async () => {
    await mosquitto.remove();
    await database.drop();
  });

  /** A service, and devices that are online. */
  async function stage(
    deviceId: string,
    env: Record<string, string> = {},
    manners: Manners = [],
  ): Promise<{ service: Service; devices: FakeDevices }> {
    const service = await Service.start({ DATABASE_URL: database.url, ...mosquitto.env, ...env });
    await service.register(deviceId, 'glucose_meter');
    // By no proxy of the service's.
    const { port, username, password } = mosquitto;
    const mqtt = (options: IClientOptions = {}): Promise<MqttClient> =>
      connectAsync({ ...options, host: '127.0.0.1', port, username, password });
    const devices = await FakeDevices.of({ mqtt }, manners);
    return { service, devices };
  }

  it('the broker: they wait, and go out once and in order when it is back', async () => {
    const { service, devices } = await stage('meter_1', {}, ['acknowledged', 'completed']);
    await devices.online('meter_1');
    await orders(service, 'meter_1', 1);
    await untilAll(service, 'meter_1', 'completed');
    await mosquitto.stop();
    const ids = await orders(service, 'meter_1', 25);
    expect((await ledgerOf(service, 'meter_1')).slice(1).map(({ status }) => status)).toEqual(
      Array(25).fill('queued'),
    );
    await mosquitto.start();
    await untilAll(service, 'meter_1', 'completed');
    expect(devices.idsOf('meter_1').slice(1)).toEqual(ids);
    await devices.end();
    await service.remove();
  });

  it('the way to the broker, in the middle of a command: cancelled then, it is not sent when the way is back', async () => {
    const proxy = await TcpProxy.to(`mqtt://127.0.0.1:${mosquitto.port}`);
    await proxy.mend();
    const { service, devices } = await stage('meter_2', { MQTT_BROKER_PORT: String(proxy.port) });
    await online(service, devices, 'meter_2');
    const before = await order(service, 'meter_2');
    expect(before.status).toBe('sent');
    proxy.mute();
    const { command_id: id, status } = await order(service, 'meter_2');
    expect(status).toBe('queued');
    const cancel = `/devices/meter_2/commands/${id}/cancel`;
    expect((await service.post(cancel, {})).body.code).toBe('command_not_cancellable');
    await proxy.cut();
    await until('it to be let go', async () => (await service.post(cancel, {})).body.status === 'cancelled');
    await proxy.mend();
    await service.untilReady();
    const after = await until('the next to be sent', async () => {
      const next = await order(service, 'meter_2');
      return next.status === 'sent' && next;
    });
    await until('the next', () => devices.idsOf('meter_2').includes(after.command_id));
    expect(devices.idsOf('meter_2')).not.toContain(id);
    await devices.end();
    await service.remove();
  });

  it.each([
    ['stored', 'its claim', 1],
    ['claimed', 'its publication', 1],
    ['published', 'its record, so that nobody knows whether the broker has it', 2],
  ])('the service, killed after a command is %s and before %s', async (place, _before, times) => {
    const id = `meter_killed_${place}`;
    const { service, devices } = await stage(id, killedAt(place));
    // Registered and heard of without a command to send, so it lives until the first.
    const next = await Service.prepare({ DATABASE_URL: database.url, ...mosquitto.env });
    await devices.online(id);
    await until(
      'it to be online',
      async () => (await service.read(`/devices/${id}`)).body.status === 'online',
    );
    await expect(service.post(`/devices/${id}/command`, { command: 'identify' })).rejects.toThrow();
    await service.end('SIGKILL');

    await next.launch();
    await next.untilReady();
    const further = await order(next, id);
    const ledger = await until('both to be sent', async () => {
      const found = await ledgerOf(next, id);
      return found.every(({ status }) => status === 'sent') && found;
    });
    const first = ledger[0]?.command_id;
    await until('both', () => devices.idsOf(id).includes(further.command_id));
    expect(devices.idsOf(id)).toEqual([...Array<string | undefined>(times).fill(first), further.command_id]);
    expect(ledger.map(({ attempts }) => attempts)).toEqual([place === 'stored' ? 1 : 2, 1]);
    await devices.end();
    await Promise.all([service.remove(), next.remove()]);
  });

  it.each(['queued', 'sent', 'acknowledged', 'completed'])(
    'the service, killed after a command is %s and before that is told: the next tells it, in order',
    async (status) => {
      const id = `meter_untold_${status}`;
      const all = ['queued', 'sent', 'acknowledged', 'completed'].map((each) => `command.${each}`);
      const { service, devices } = await stage(id, killedAt(`before command.${status}`), [
        'acknowledged',
        'completed',
      ]);
      const next = await Service.prepare({ DATABASE_URL: database.url, ...mosquitto.env });
      const told: { id: string; type: string }[] = [];
      const listener = await service.mqtt();
      listener.on('message', (_topic, payload) =>
        told.push(JSON.parse(payload.toString('utf8')) as (typeof told)[number]),
      );
      for (const type of all) await listener.subscribeAsync(`events/${type}/${id}`, { qos: 1 });
      if (status !== 'queued') await online(service, devices, id);
      // Answered or not: it dies at once, or a moment later.
      await service.post(`/devices/${id}/command`, { command: 'identify' }).catch(() => undefined);
      await until('it to be killed', () => service.hasEnded);

      await next.launch();
      await next.untilReady();
      await devices.online(id);
      await until('all to be told', () => all.every((type) => told.some((each) => each.type === type)));
      expect([...new Set(told.map(({ type }) => type))]).toEqual(all);
      expect(new Set(told.map((each) => each.id)).size).toBe(all.length);
      await until('that to be noted', async () => {
        const [row] = await database.query<{ count: string }>('SELECT count(*) FROM command_news');
        return Number(row?.count) === 0;
      });
      await Promise.all([devices.end(), listener.endAsync()]);
      await Promise.all([service.remove(), next.remove()]);
    },
  );

  it('the service, killed before it tells the last that there is to tell: another does', async () => {
    const id = 'meter_untold_cancelled';
    const { service, devices } = await stage(id, killedAt('before command.cancelled'));
    const next = await Service.start({ DATABASE_URL: database.url, ...mosquitto.env });
    const told: string[] = [];
    const listener = await service.mqtt();
    listener.on('message', (topic) => told.push(topic));
    await listener.subscribeAsync(`events/+/${id}`, { qos: 1 });
    const { command_id } = await order(service, id);
    const cancel = `/devices/${id}/commands/${command_id}/cancel`;
    await expect(service.post(cancel, {})).rejects.toThrow();
    await until('it to be told', () => told.includes(`events/command.cancelled/${id}`));
    expect([...new Set(told)]).toEqual([`events/command.queued/${id}`, `events/command.cancelled/${id}`]);
    await Promise.all([devices.end(), listener.endAsync()]);
    await Promise.all([service.remove(), next.remove()]);
  });
});
