import { join } from 'node:path';
import type { MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from './support/database.js';
import { EventServer, type Listener, type TestedEventSystem } from './support/event-servers.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

interface CloudEvent {
  readonly specversion: string;
  readonly id: string;
  readonly type: string;
  readonly subject: string;
  readonly data: { readonly readings?: readonly { readonly value: number }[] };
}

/** More than goes out of the outbox at once. */
const WAITING = 1_200;
const DEVICES = ['scale_1', 'scale_2', 'scale_3'];

/** A service that tells an event system of its events, by a way that can be cut. */
class Stage {
  device!: MqttClient;
  listener!: Listener;
  private told = 0;

  private constructor(
    readonly system: TestedEventSystem,
    readonly server: EventServer,
    readonly way: TcpProxy,
    readonly database: TestDatabase,
    /** Without it, the service has the embedded broker, which forgets what is not acknowledged when the service dies. */
    readonly broker: Mosquitto | null,
    readonly service: Service,
  ) {}

  static async of(system: TestedEventSystem, env: Readonly<Record<string, string>> = {}): Promise<Stage> {
    const server = await EventServer.prepare(system);
    await server.start();
    const way = await TcpProxy.to(server.url);
    await way.mend();
    const database = await createDatabase();
    const broker = Mosquitto.installed ? await Mosquitto.prepare() : null;
    await broker?.start();
    const service = await Service.prepare({
      DATABASE_URL: database.url,
      EVENTS_URL: way.through(server.url),
      ...broker?.env,
      ...env,
    });
    const stage = new Stage(system, server, way, database, broker, service);
    stage.listener = await server.listen();
    await service.launch();
    await service.untilReady();
    await stage.connected(true);
    for (const id of DEVICES) await service.register(id, 'weight_scale');
    stage.device = await service.mqtt();
    await stage.measure(1);
    await stage.hearsAll();
    // From here on there are no events but those of measurements.
    await until('the devices to be online', () => {
      const told = stage.listener.received.filter(({ pattern }) => pattern === 'device.connected');
      return told.length === DEVICES.length;
    });
    return stage;
  }

  /** Every device sends so many measurements, by turns. @returns once the broker has them. */
  async measure(count: number): Promise<void> {
    const sent: Promise<unknown>[] = [];
    for (let at = 0; at < count; at += 1) {
      this.told += 1;
      for (const id of DEVICES) {
        const payload = JSON.stringify({ metric_type: 'weight', value: 1 + this.told / 10, unit: 'kg' });
        sent.push(this.device.publishAsync(`devices/${id}/data`, payload, { qos: 1 }));
      }
    }
    await Promise.all(sent);
  }

  /** Values a device has sent, in its order. */
  get sent(): readonly number[] {
    return Array.from({ length: this.told }, (_unused, at) => 1 + (at + 1) / 10);
  }

  /** Values the listener was told of, in order; what it was told of again does not count. */
  heard(deviceId: string): readonly number[] {
    const values = new Map<string, number>();
    for (const { text } of this.listener.received) {
      const event = JSON.parse(text) as CloudEvent;
      const [reading] = event.data.readings ?? [];
      if (
        event.type === 'device.data.received' &&
        event.subject === deviceId &&
        reading &&
        !values.has(event.id)
      )
        values.set(event.id, reading.value);
    }
    return [...values.values()];
  }

  /** Until the listener was told of everything. */
  async hearsAll(): Promise<void> {
    await until('all events', () => DEVICES.every((id) => this.heard(id).length >= this.told));
    for (const id of DEVICES) expect(this.heard(id)).toEqual(this.sent);
  }

  async health(): Promise<{ events: Record<string, unknown>; ingest: Record<string, unknown> }> {
    const { body } = await this.service.get('/health/detailed');
    const { details } = body as {
      details: { events: Record<string, unknown>; ingest: Record<string, unknown> };
    };
    return details;
  }

  async connected(expected: boolean): Promise<void> {
    await until(`connected: ${expected}`, async () => (await this.health()).events['connected'] === expected);
  }

  /** Until everything that was sent is stored and acknowledged. */
  async stored(): Promise<void> {
    await until('the measurements to be stored', async () => {
      const [row] = await this.database.query<{ count: number }>(
        'SELECT count(*)::int AS count FROM device_readings',
      );
      return row?.count === this.told * DEVICES.length;
    });
    await this.unacknowledged(0);
  }

  async unacknowledged(count: number): Promise<void> {
    await until(`${count} messages without acknowledgement`, async () => {
      const { ingest } = await this.health();
      if (ingest['in_flight'] !== count) throw new Error(JSON.stringify(ingest));
      return true;
    });
  }

  async waiting(): Promise<number> {
    const [row] = await this.database.query<{ count: number }>(
      'SELECT count(*)::int AS count FROM events_outbox',
    );
    return row?.count ?? 0;
  }

  /** The event system is stopped. */
  async leave(): Promise<void> {
    await this.way.cut();
    await this.listener.close();
    await this.server.stop();
    await this.connected(false);
  }

  /** It is started, and listened to before the service can reach it: two of them keep nothing for who comes later. */
  async comeBack(): Promise<void> {
    const before = this.listener.received;
    await this.server.start();
    const listener = await this.server.listen();
    this.listener = {
      get received() {
        return [...before, ...listener.received];
      },
      close: () => listener.close(),
    };
    await this.way.mend();
  }

  async remove(): Promise<void> {
    await this.device.endAsync(true);
    await this.service.remove();
    await this.broker?.remove();
    await this.listener.close();
    await this.way.cut();
    await this.server.remove();
    await this.database.drop();
  }
}

const systems = EventServer.installed();

describe.each(systems)('%s', (system) => {
  let stage: Stage;

  beforeAll(async () => {
    stage = await Stage.of(system);
  });
  afterAll(async () => {
    await stage.remove();
  });

  it('is told of each event as a CloudEvent under its type, in the order of its device', async () => {
    await stage.measure(100);
    await stage.hearsAll();
    const { contentType, text = '' } =
      stage.listener.received.find(({ pattern }) => pattern === 'device.data.received') ?? {};
    expect(JSON.parse(text)).toMatchObject({
      specversion: '1.0',
      id: expect.any(String) as string,
      source: '/mqtt-service',
      type: 'device.data.received',
      subject: expect.stringMatching(/^scale_/) as string,
      time: expect.any(String) as string,
      datacontenttype: 'application/json',
      data: { patient_id: 1, readings: [{ metric_type: 'weight', unit: 'kg' }] },
    });
    if (system === 'RabbitMQ') expect(contentType).toBe('application/cloudevents+json');
    const patterns = stage.listener.received.map((received) => received.pattern);
    expect(patterns.filter((name) => name === 'device.registered')).toHaveLength(DEVICES.length);
    expect(await stage.waiting()).toBe(0);
  });

  it('may be away: measurements are acknowledged, and their events follow in order', async () => {
    await stage.leave();
    await stage.measure(WAITING);
    await stage.stored();
    const { events } = await stage.health();
    expect(await stage.waiting()).toBe(WAITING * DEVICES.length);
    expect((await stage.service.get('/health')).body).toMatchObject({ status: 'degraded' });
    await until('health to say how many wait', async () => {
      const health = await stage.health();
      return (
        health.events['waiting'] === WAITING * DEVICES.length &&
        health.events['oldest_waiting_since'] !== null
      );
    });
    expect(events).toMatchObject({ system, connected: false, status: 'degraded', held_back: false });
    expect((await stage.service.get('/metrics')).text).toContain(
      `mqtt_service_events_waiting ${WAITING * DEVICES.length}`,
    );
    // Restarted in the meantime, as after a power cut, it knows of what waits.
    await stage.service.end('SIGKILL');
    await stage.service.launch();
    await stage.service.untilReady();
    stage.device = await stage.service.mqtt();
    await stage.measure(50);
    await stage.stored();
    // More comes in while what waits goes out, and must not overtake it.
    const measuring = (async () => {
      for (let times = 0; times < 30; times += 1) await stage.measure(5);
    })();
    await stage.comeBack();
    await measuring;
    await stage.hearsAll();
    await until('nothing to wait', async () => (await stage.waiting()) === 0);
    await until('health to say so', async () => (await stage.health()).events['waiting'] === 0);
    await stage.measure(50);
    await stage.hearsAll();
    expect(await stage.waiting()).toBe(0);
  });

  it('may fall silent: what it does not answer waits, and goes out on another connection', async () => {
    stage.way.mute();
    await stage.measure(20);
    await stage.stored();
    expect(await stage.waiting()).toBe(20 * DEVICES.length);
    stage.way.unmute();
    await stage.hearsAll();
  });

  it('says nothing of the account in its log', () => {
    const { password } = new URL(stage.server.url);
    expect(stage.service.log).toContain('Events wait: ');
    expect(stage.service.log).not.toContain(password);
  });
});

describe.each(systems)('%s, away for too long', (system) => {
  it.each([
    ['EVENTS_GRACE', { EVENTS_GRACE: '1ms' }],
    ['EVENTS_OUTBOX_BYTES', { EVENTS_OUTBOX_BYTES: '1' }],
  ])('holds acknowledgements back, and nothing is lost: %s', async (_name, env) => {
    const stage = await Stage.of(system, env);
    try {
      await stage.leave();
      await stage.measure(1);
      await until('the first to wait', async () => (await stage.waiting()) > 0);
      const acknowledged = await stage.waiting();
      expect(acknowledged).toBeLessThanOrEqual(DEVICES.length);
      await stage.measure(20);
      await stage.unacknowledged(21 * DEVICES.length - acknowledged);
      expect(await stage.waiting()).toBe(acknowledged);
      await until('health to say so', async () => (await stage.health()).events['held_back'] === true);
      expect((await stage.health()).events).toMatchObject({ status: 'degraded' });
      expect(stage.service.log).toContain('Measurements are no longer acknowledged');
      // What was not acknowledged is delivered again, and what waits goes out before it.
      if (stage.broker) {
        await stage.service.end('SIGKILL');
        await stage.service.launch();
      }
      await stage.comeBack();
      await stage.stored();
      await stage.hearsAll();
      await until(
        'nothing to be held back',
        async () => (await stage.health()).events['held_back'] === false,
      );
    } finally {
      await stage.remove();
    }
  });
});

describe.each([
  ['nats://nats.invalid', '@nats-io/transport-node'],
  ['amqp://rabbit.invalid', 'amqplib amqp-connection-manager'],
  ['kafka://kafka.invalid', 'kafkajs'],
  ['redis://redis.invalid', 'ioredis'],
])('%s without its packages', (url, packages) => {
  it('is refused at the start, and says what to install', async () => {
    const service = await Service.prepare({
      EVENTS_URL: url,
      WITHOUT_PACKAGES: packages,
      NODE_OPTIONS: `--import ${join(process.cwd(), 'test', 'support', 'without-package.mjs')}`,
    });
    const { code, output } = await service.launchInVain();
    expect(code).toBe(1);
    expect(output).toMatch(/^EVENTS_URL: .* not installed: npm install /m);
    expect(output).toContain(`npm install ${packages}\n`);
    await service.remove();
  });
});
