import { join } from 'node:path';
import type { MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Mosquitto } from './support/mosquitto.js';
import { causesOf, untilStatus, viewOf } from './support/presence.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

type Kind = 'the embedded broker' | 'Mosquitto, MQTT 5';

const KINDS: readonly Kind[] = Mosquitto.installed
  ? ['the embedded broker', 'Mosquitto, MQTT 5']
  : ['the embedded broker'];
const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed)
  process.stderr.write('Devices lost by their broker not tested against Mosquitto: it is not installed\n');

interface LedgerEntry {
  readonly command_id: string;
  readonly status: string;
  readonly attempts: number;
  readonly sent_at: string | null;
}

/** How a device connects, and whether it then says that it is there. */
interface Coming {
  readonly clientId?: string;
  readonly clean?: boolean;
  readonly qos?: 0 | 1;
  readonly subscribes?: boolean;
  readonly speaks?: boolean;
}

/** A device that subscribes to its commands first, as one should. */
class Device {
  readonly received: string[] = [];
  private readonly clients: MqttClient[] = [];

  constructor(
    private readonly service: Service,
    readonly id: string,
  ) {}

  async come(how: Coming = {}): Promise<MqttClient> {
    const { clientId = this.id, clean = true, qos = 1, subscribes = true, speaks = true } = how;
    const client = await this.service.mqtt({ clientId, clean });
    client.on('error', () => undefined);
    client.on('message', (_topic, payload) => {
      const { command_id } = JSON.parse(payload.toString('utf8')) as { command_id: string };
      this.received.push(command_id);
    });
    this.clients.push(client);
    if (subscribes) await client.subscribeAsync(`devices/${this.id}/commands`, { qos });
    if (speaks) await this.say(client, crypto.randomUUID());
    return client;
  }

  async say(client: MqttClient, session: string): Promise<void> {
    const text = JSON.stringify({ status: 'online', session });
    await client.publishAsync(`devices/${this.id}/status`, text, { qos: 1 });
  }

  async order(more: object = {}): Promise<LedgerEntry> {
    const answer = await this.service.post(`/devices/${this.id}/command`, {
      command: 'measure_now',
      ...more,
    });
    expect(answer.status).toBe(202);
    return answer.body;
  }

  /** Oldest first. */
  async ledger(): Promise<LedgerEntry[]> {
    return (await this.service.read(`/devices/${this.id}/commands?limit=1000`)).body.data.reverse();
  }

  async untilAll(status: string): Promise<LedgerEntry[]> {
    return until(`all commands of ${this.id} to be ${status}`, async () => {
      const found = await this.ledger();
      return found.every((command) => command.status === status) && found;
    });
  }

  /** Until it has received these and then one more, so that no other is under way. */
  async hasReceived(ids: readonly string[]): Promise<void> {
    const { command_id: last } = await this.order();
    await until('the last', () => this.received.includes(last));
    expect(this.received).toEqual([...ids, last]);
  }

  async end(): Promise<void> {
    await Promise.all(this.clients.map((client) => client.endAsync(true)));
  }
}

describe.each(KINDS)('a device that the broker has lost (%s)', (kind) => {
  let database: TestDatabase;
  let mosquitto: Mosquitto | null;
  let service: Service;
  const devices: Device[] = [];

  const withDevice = async (id: string): Promise<Device> => {
    await service.register(id, 'pulse_oximeter');
    const device = new Device(service, id);
    devices.push(device);
    return device;
  };

  /** One that is there, and shown as online. */
  const there = async (id: string, how: Coming = {}): Promise<Device> => {
    const device = await withDevice(id);
    await device.come(how);
    await untilStatus(service, id, 'online');
    return device;
  };

  /** The broker is killed, with all it knew of its clients, and started anew. */
  const loseAll = async (): Promise<void> => {
    if (mosquitto) {
      await mosquitto.stop('SIGKILL');
      mosquitto.forget();
      await until('that to be noticed', async () => (await service.get('/health/ready')).status === 503);
      await mosquitto.start();
      await service.untilReady();
    } else {
      await service.end('SIGKILL');
      await service.launch();
      await service.untilReady();
    }
    // Commands go out again: what stays queued is not waiting for the broker.
    const other = await there(`other_${crypto.randomUUID()}`);
    await until('commands to be sent', async () => (await other.order()).status === 'sent');
  };

  beforeAll(async () => {
    database = await createDatabase();
    mosquitto = kind === 'the embedded broker' ? null : await Mosquitto.prepare();
    await mosquitto?.start();
    service = await Service.start({ DATABASE_URL: database.url, ...mosquitto?.env });
  });
  afterAll(async () => {
    await Promise.all(devices.map((device) => device.end()));
    await service.remove();
    await mosquitto?.remove();
    await database.drop();
  });

  it.each([
    ['its own client id, in a session to be kept', 'pump_own', { clean: false }],
    ['another client id, in a session of its own', 'pump_other', { clientId: 'pump_other_again' }],
  ])('gets its commands, once and in order, when it comes back under %s', async (_how, id, how) => {
    const device = await there(id, { clean: !('clean' in how) });
    const warm = await device.order();
    await until('the first', () => device.received.includes(warm.command_id));
    await loseAll();
    const told: string[] = [];
    const listener = await service.mqtt();
    listener.on('message', (_topic, payload) => {
      const { data } = JSON.parse(payload.toString('utf8')) as { data: { command_id: string } };
      told.push(data.command_id);
    });
    await listener.subscribeAsync(`events/command.sent/${id}`, { qos: 1 });
    const ids: string[] = [];
    for (let index = 0; index < 5; index += 1) {
      const { command_id, status, sent_at } = await device.order();
      expect({ status, sent_at }).toEqual({ status: 'queued', sent_at: null });
      ids.push(command_id);
    }
    expect((await viewOf(service, id))['status']).toBe('online');
    expect(told).toEqual([]);

    await device.come(how);
    const ledger = await device.untilAll('sent');
    expect(ledger.map(({ attempts }) => attempts)).toEqual(ledger.map(() => 1));
    await device.hasReceived([warm.command_id, ...ids]);
    await until('that to be told', () => told.length > ids.length);
    expect(new Set(told).size).toBe(told.length);
    // Shown online all the time.
    expect(await causesOf(service, id)).toEqual(['online by status']);
    await listener.endAsync();
  });

  it('gets them when it only listens, and says nothing', async () => {
    const device = await there('pump_silent');
    await loseAll();
    const ids = [(await device.order()).command_id, (await device.order()).command_id];
    expect((await device.untilAll('queued')).map(({ attempts }) => attempts)).toEqual([0, 0]);
    await device.come({ speaks: false });
    await device.untilAll('sent');
    await device.hasReceived(ids);
  });

  it('gets none that expired or was cancelled meanwhile', async () => {
    const device = await there('pump_late');
    await loseAll();
    const hasty = await device.order({ expires_in: '2s' });
    const unwanted = await device.order();
    const wanted = await device.order();
    const cancel = `/devices/pump_late/commands/${unwanted.command_id}/cancel`;
    await until('the end of one', async () => (await service.post(cancel, {})).body.status === 'cancelled');
    const statuses = async (): Promise<string[]> => (await device.ledger()).map(({ status }) => status);
    await until('the end of another', async () => (await statuses())[0] === 'expired');
    expect(await statuses()).toEqual(['expired', 'cancelled', 'queued']);
    const answer = JSON.stringify({ command_id: hasty.command_id, status: 'completed' });
    const client = await device.come();
    await until('the last', async () => (await statuses())[2] === 'sent');
    await device.hasReceived([wanted.command_id]);
    // It never got it: what it says of it is nonsense.
    await client.publishAsync('devices/pump_late/responses', answer, { qos: 1 });
    await until('that to be rejected', async () => {
      const rows = await database.query(`SELECT FROM rejected_messages WHERE device_id = 'pump_late'`);
      return rows.length === 1;
    });
  });

  it('is sent its commands once it has spoken, whether or not anybody listens', async () => {
    const device = await there('pump_deaf');
    await loseAll();
    const held = await device.order();
    expect(held.status).toBe('queued');
    await device.come({ subscribes: false });
    await device.untilAll('sent');
    expect((await device.order()).status).toBe('sent');
    expect(device.received).toEqual([]);
  });

  it.each([
    ['that listens at QoS 0', { qos: 0 }, false],
    ['whose session the broker keeps', { clean: false }, true],
  ] as const)('and found again is sent its commands at once, also one %s', async (_how, how, leaves) => {
    const id = leaves ? 'pump_kept' : 'pump_qos_0';
    const device = await there(id);
    await loseAll();
    const client = await device.come({ ...how, speaks: false });
    if (leaves) await client.endAsync();
    const { command_id, status } = await device.order();
    expect(status).toBe('sent');
    if (leaves) client.reconnect();
    await until('it to arrive', () => device.received.includes(command_id));
  });

  it('and that nobody ever listened for: its commands are sent when it says that it is there', async () => {
    const device = await there('pump_tester', { subscribes: false });
    expect((await device.order()).status).toBe('sent');
  });
});

describeWithMosquitto('devices that the broker has lost', () => {
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

  const loseAll = async (services: readonly Service[]): Promise<void> => {
    await mosquitto.stop('SIGKILL');
    mosquitto.forget();
    for (const service of services)
      await until('that to be noticed', async () => (await service.get('/health/ready')).status === 503);
  };

  it('get what was ordered while the broker was away from one of two replicas, once and in order', async () => {
    const env = { DATABASE_URL: database.url, ...mosquitto.env };
    const replicas = [await Service.start(env), await Service.start(env)] as const;
    const [first, second] = replicas;
    await first.register('pump_1', 'pulse_oximeter');
    const device = new Device(first, 'pump_1');
    const atSecond = new Device(second, 'pump_1');
    await device.come();
    await untilStatus(first, 'pump_1', 'online');
    await loseAll(replicas);
    const ids: string[] = [];
    for (let index = 0; index < 8; index += 1)
      ids.push((await (index % 2 === 0 ? device : atSecond).order()).command_id);
    await mosquitto.start();
    for (const replica of replicas) await replica.untilReady();
    // Tried, and nobody listens.
    for (let index = 0; index < 4; index += 1) {
      const { command_id, status } = await (index % 2 === 0 ? device : atSecond).order();
      expect(status).toBe('queued');
      ids.push(command_id);
    }
    expect((await device.untilAll('queued')).map(({ command_id }) => command_id)).toEqual(ids);
    const client = await device.come();
    // Ten in flight at most: it answers.
    await until('the first ten', () => device.received.length === 10);
    for (const command_id of ids.slice(0, 10)) {
      const answer = JSON.stringify({ command_id, status: 'completed' });
      await client.publishAsync('devices/pump_1/responses', answer, { qos: 1 });
    }
    await until('all of them', () => device.received.length >= ids.length);
    await device.hasReceived(ids);
    await device.end();
    await Promise.all(replicas.map((replica) => replica.remove()));
  });

  it('are not taken for heard of by what had waited in the broker since before', async () => {
    const service = await Service.start({ DATABASE_URL: database.url, ...mosquitto.env });
    await service.register('scale_1', 'weight_scale');
    const device = new Device(service, 'scale_1');
    const client = await device.come();
    await untilStatus(service, 'scale_1', 'online');
    await service.end();
    const body = JSON.stringify({ metric_type: 'weight', value: 70, unit: 'kg' });
    await client.publishAsync('devices/scale_1/data', body, { qos: 1 });
    await device.end();
    // The service's session is kept, and this device's is no more.
    await mosquitto.stop();
    await mosquitto.start();
    await service.launch();
    await service.untilReady();
    await until('that to be noted', async () => {
      const rows = await database.query(
        `SELECT FROM medical_devices WHERE device_id = 'scale_1' AND last_seen >= last_data_at`,
      );
      return rows.length === 1;
    });
    const { command_id, status } = await device.order();
    expect(status).toBe('queued');
    await device.come();
    await device.untilAll('sent');
    await device.hasReceived([command_id]);
    await device.end();
    await service.remove();
  });

  it('are not taken for heard of by the clock of another replica', async () => {
    const env = { DATABASE_URL: database.url, ...mosquitto.env };
    // The first one started reads what devices say.
    const first = await Service.start({
      ...env,
      CLOCK_AHEAD_MS: '8000',
      NODE_OPTIONS: `--import ${join(process.cwd(), 'test', 'support', 'clock-ahead.mjs')}`,
    });
    const second = await Service.start(env);
    await first.register('pump_3', 'pulse_oximeter');
    const device = new Device(first, 'pump_3');
    const atSecond = new Device(second, 'pump_3');
    await device.come();
    await untilStatus(first, 'pump_3', 'online');
    await device.end();
    await loseAll([first, second]);
    await mosquitto.start();
    for (const replica of [second, first]) await replica.untilReady();
    const orders = [await atSecond.order(), await device.order()];
    expect(orders.map(({ status }) => status)).toEqual(['queued', 'queued']);
    await device.come();
    await device.untilAll('sent');
    await device.hasReceived(orders.map(({ command_id }) => command_id));
    await device.end();
    await Promise.all([first, second].map((replica) => replica.remove()));
  });

  it('are not told from others over MQTT 3.1.1, which has no word for it', async () => {
    const service = await Service.start({
      DATABASE_URL: database.url,
      ...mosquitto.env,
      MQTT_PROTOCOL_VERSION: '3.1.1',
    });
    await service.register('pump_2', 'pulse_oximeter');
    const device = new Device(service, 'pump_2');
    await device.come();
    await untilStatus(service, 'pump_2', 'online');
    await loseAll([service]);
    await mosquitto.start();
    await service.untilReady();
    await until('a command to be sent', async () => (await device.order()).status === 'sent');
    await device.end();
    await service.remove();
  });
});
