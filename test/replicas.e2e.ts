import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MqttClient } from 'mqtt';
import { Client } from 'pg';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed) process.stderr.write('Replicas not tested: Mosquitto is not installed\n');

const TAKEOVER_WITHIN_MS = 10_000;
const SCALE = 'scale_1';

/** A scale that is stepped on all the time. Each message has a value of its own, and every other one a date. */
class Scale {
  private timer: NodeJS.Timeout | undefined;
  private readonly publishes: Promise<void>[] = [];
  private sent = 0;
  /** Messages the broker has acknowledged. */
  acknowledged = 0;

  private constructor(private readonly client: MqttClient) {}

  /** @param replica any one; the scale talks to its broker. */
  static async near(replica: Service): Promise<Scale> {
    return new Scale(await replica.mqtt());
  }

  /** 500 messages a second. */
  start(): void {
    this.timer = setInterval(() => void this.publish(10), 20);
  }

  /** @returns how many messages there were in all, when the broker has acknowledged every one. */
  async stop(): Promise<number> {
    clearInterval(this.timer);
    await Promise.all(this.publishes);
    return this.acknowledged;
  }

  async publish(count: number): Promise<void> {
    const burst = Array.from({ length: count }, () => this.publishOne());
    this.publishes.push(...burst);
    await Promise.all(burst);
  }

  /** Awaits that the broker acknowledges as many more. */
  async untilMore(count: number): Promise<void> {
    const before = this.acknowledged;
    await until(`${count} more messages`, () => this.acknowledged >= before + count);
  }

  async end(): Promise<void> {
    clearInterval(this.timer);
    await this.client.endAsync();
  }

  private async publishOne(): Promise<void> {
    this.sent += 1;
    const timestamp = new Date(Date.UTC(2024, 0, 1) + this.sent * 1_000).toISOString();
    const payload = {
      metric_type: 'weight',
      // In steps of 10 g there is room for 60,000 before it is too heavy.
      value: 50 + this.sent / 100,
      ...(this.sent % 2 === 0 && { timestamp }),
    };
    await this.client.publishAsync(`devices/${SCALE}/data`, JSON.stringify(payload), { qos: 1 });
    this.acknowledged += 1;
  }
}

/** Mosquitto with a log, which tells who had a session when. */
class LoggedMosquitto {
  private constructor(
    readonly broker: Mosquitto,
    private readonly folder: string,
  ) {}

  static async start(): Promise<LoggedMosquitto> {
    const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-mosquitto-log-'));
    chmodSync(folder, 0o777);
    const broker = await Mosquitto.prepare([`log_dest file ${join(folder, 'mosquitto.log')}`]);
    await broker.start();
    return new LoggedMosquitto(broker, folder);
  }

  /** What became of a session, in order. */
  holders(clientId: string): string {
    const log = readFileSync(join(this.folder, 'mosquitto.log'), 'utf8');
    return log
      .split('\n')
      .flatMap((line) => {
        if (line.includes(`: New client connected from`) && line.includes(` as ${clientId} `)) return ['on'];
        if (!line.includes(`: Client ${clientId} `)) return [];
        return [line.includes('already connected') ? 'taken over' : 'off'];
      })
      .join(', ');
  }

  async remove(): Promise<void> {
    await this.broker.remove();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const mqttOf = async (replica: Service): Promise<Record<string, unknown>> =>
  (await replica.get('/health/detailed')).body.details.mqtt;

const storedBy = async (replica: Service): Promise<number> => {
  const { text } = await replica.get('/metrics');
  return Number(/^mqtt_service_messages_stored_total (\d+)$/m.exec(text)?.[1]);
};

const readingsIn = async (database: TestDatabase): Promise<{ rows: number; values: number }> => {
  const [row] = await database.query<{ rows: string; values: string }>(
    'SELECT count(*) AS rows, count(DISTINCT value) AS values FROM device_readings',
  );
  return { rows: Number(row?.rows), values: Number(row?.values) };
};

/** Every message once, however often it was delivered. */
const untilStoredOnce = async (database: TestDatabase, messages: number): Promise<void> => {
  await until(`${messages} readings`, async () => (await readingsIn(database)).values === messages, 20_000);
  expect(await readingsIn(database)).toEqual({ rows: messages, values: messages });
};

/** The replica that has the session, when it has it and all others stand by. */
const untilOneActive = (replicas: readonly Service[]): Promise<Service> =>
  until('one active replica, the others standing by', async () => {
    const states = await Promise.all(replicas.map(mqttOf));
    const active = states.filter(({ role }) => role === 'active');
    const [state] = active;
    if (active.length !== 1 || !state || state['connected'] !== true) return undefined;
    return (state['subscriptions'] as unknown[]).length === 3 && replicas[states.indexOf(state)];
  });

describeWithMosquitto('replicas with one MQTT_CLIENT_ID', () => {
  const CLIENT_ID = 'the_session';
  let database: TestDatabase;
  let mosquitto: LoggedMosquitto;
  /** The way of each replica to the database. */
  let ways: readonly TcpProxy[];
  let replicas: readonly Service[];
  let scale: Scale;
  let active: Service;

  beforeAll(async () => {
    [database, mosquitto] = await Promise.all([createDatabase(), LoggedMosquitto.start()]);
    const { url } = database;
    ways = await Promise.all([1, 2, 3].map(() => TcpProxy.to(url)));
    await Promise.all(ways.map((way) => way.mend()));
    const env = { ...mosquitto.broker.env, MQTT_CLIENT_ID: CLIENT_ID };
    replicas = await Promise.all(
      ways.map((way) => Service.start({ ...env, DATABASE_URL: way.through(url) })),
    );
    scale = await Scale.near(replicas[0] as Service);
  });
  afterAll(async () => {
    await scale.end();
    await Promise.all(replicas.map((replica) => replica.remove()));
    await Promise.all(ways.map((way) => way.cut()));
    await mosquitto.remove();
    await database.drop();
  });

  const others = (): Service[] => replicas.filter((replica) => replica !== active);

  it('one has the session; the others stand by, and are ready', async () => {
    active = await untilOneActive(replicas);
    for (const replica of others()) {
      expect(await mqttOf(replica)).toMatchObject({ role: 'standby', connected: false, subscriptions: [] });
      expect((await replica.get('/health/ready')).status).toBe(200);
      expect((await replica.get('/health')).body.status).toBe('ok');
    }
    const [standby] = others();
    expect((await standby?.register(SCALE, 'weight_scale'))?.status).toBe(201);
    scale.start();
    await until('messages stored', async () => (await storedBy(active)) > 0);
  });

  it.each([
    ['SIGKILL', null],
    ['SIGTERM', 0],
  ] as const)(
    'another takes over within 10 s of a %s, and nothing is lost or doubled',
    async (signal, exitCode) => {
      await scale.untilMore(500);
      const ended = active;
      const standing = others();
      const began = Date.now();
      expect(await ended.end(signal)).toBe(exitCode);
      active = await until('another to store what comes in', async () => {
        const stored = await Promise.all(standing.map(storedBy));
        return standing[stored.findIndex((count) => count > 0)];
      });
      expect(Date.now() - began).toBeLessThan(TAKEOVER_WITHIN_MS);
      await scale.untilMore(500);

      await ended.launch();
      expect(await untilOneActive(replicas)).toBe(active);
      await ended.untilReady();
      await scale.untilMore(500);
      expect(await storedBy(ended)).toBe(0);
      await untilStoredOnce(database, await scale.stop());
      scale.start();
    },
  );

  it('no two have had the session at a time', () => {
    expect(mosquitto.holders(CLIENT_ID)).toBe('on, off, on, off, on');
  });

  /** The connections that hold the lease, or ask for it. */
  const leases = (): Promise<{ pid: number; held: boolean }[]> =>
    database.query(
      `SELECT pid, EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'advisory' AND granted) AS held
       FROM pg_stat_activity a WHERE datname = current_database() AND application_name = 'mqtt-service-lease'`,
    );
  /** What Mosquitto has seen when a session went on to another so many times: each time it was left, or taken away. */
  const handedOver = (times: number): RegExp => new RegExp(`^(, (off|taken over), on){${times}}$`);
  const cut = (pid: number): Promise<unknown> => database.query('SELECT pg_terminate_backend($1)', [pid]);

  /** Keeps the holder from its lease until another has it. */
  const handOver = async (): Promise<void> => {
    const standing = (await leases()).filter(({ held }) => !held).map(({ pid }) => pid);
    expect(standing).toHaveLength(2);
    await until('another to hold the lease', async () => {
      const now = await leases();
      if (now.some(({ pid, held }) => held && standing.includes(pid))) return true;
      await Promise.all(now.filter(({ pid }) => !standing.includes(pid)).map(({ pid }) => cut(pid)));
      return false;
    });
    const next = await untilOneActive(replicas);
    expect(next).not.toBe(active);
    active = next;
  };

  it('the holder of a lease that is cut off gets it back or leaves it, and nothing is lost or doubled', async () => {
    const before = mosquitto.holders(CLIENT_ID);
    let changes = 0;
    for (let round = 0; round < 3; round += 1) {
      await scale.untilMore(200);
      const holder = await until('the lease', async () => (await leases()).find(({ held }) => held));
      await cut(holder.pid);
      await until('the lease to be held anew', async () =>
        (await leases()).some(({ pid, held }) => held && pid !== holder.pid),
      );
      const next = await untilOneActive(replicas);
      if (next !== active) changes += 1;
      active = next;
    }
    await scale.untilMore(200);
    await untilStoredOnce(database, await scale.stop());
    expect(mosquitto.holders(CLIENT_ID).slice(before.length)).toMatch(handedOver(changes));
    // Others ask once a second; the holder asks at once.
    expect(changes).toBeLessThan(3);
    scale.start();
  });

  it('another takes over from a holder that cannot get its lease back, and nothing is lost or doubled', async () => {
    const before = mosquitto.holders(CLIENT_ID);
    await handOver();
    await scale.untilMore(500);
    await untilStoredOnce(database, await scale.stop());
    expect(mosquitto.holders(CLIENT_ID).slice(before.length)).toMatch(handedOver(1));
    scale.start();
  });

  it('another takes over within 10 s from a holder that stands still, and nothing is lost or doubled', async () => {
    const before = mosquitto.holders(CLIENT_ID);
    await scale.untilMore(500);
    const frozen = active;
    const standing = others();
    const began = Date.now();
    process.kill(frozen.pid, 'SIGSTOP');
    try {
      active = await untilOneActive(standing);
      expect(Date.now() - began).toBeLessThan(TAKEOVER_WITHIN_MS);
      await scale.untilMore(500);
    } finally {
      process.kill(frozen.pid, 'SIGCONT');
    }
    expect(await untilOneActive(replicas)).toBe(active);
    await scale.untilMore(500);
    await untilStoredOnce(database, await scale.stop());
    expect(mosquitto.holders(CLIENT_ID).slice(before.length)).toMatch(handedOver(1));
    scale.start();
  });

  it('one that is cut off from the database leaves the session to another, and nothing is lost or doubled', async () => {
    const before = mosquitto.holders(CLIENT_ID);
    await scale.untilMore(200);
    const lonely = active;
    const way = ways[replicas.indexOf(lonely)];
    const stall = new Client({ connectionString: database.url });
    await stall.connect();
    await stall.query('BEGIN; LOCK TABLE device_readings IN EXCLUSIVE MODE');
    await until('messages in its hands', async () => {
      const { body } = await lonely.get('/health/detailed');
      return body.details.ingest.in_flight > 0;
    });
    await way?.cut();
    await stall.end();
    const stored = await storedBy(lonely);
    active = await untilOneActive(others());
    await until('it to have lost the session', async () => !(await mqttOf(lonely))['connected']);
    // For longer than it would take to connect again.
    await scale.untilMore(1_500);
    await way?.mend();
    expect(await untilOneActive(replicas)).toBe(active);
    await until('what it had in hand', async () => (await storedBy(lonely)) > stored);
    await untilStoredOnce(database, await scale.stop());
    // Once: who had it does not fight for it.
    expect(mosquitto.holders(CLIENT_ID).slice(before.length)).toMatch(handedOver(1));
  });

  it('stores once what is in the hands of two, of the replica that lost the session and of the next', async () => {
    const stall = new Client({ connectionString: database.url });
    await stall.connect();
    const waiting = async (): Promise<number> =>
      (await database.query('SELECT FROM pg_locks WHERE NOT granted')).length;
    await stall.query('BEGIN; LOCK TABLE device_readings IN EXCLUSIVE MODE');
    await scale.publish(50);
    await until('the holder to wait for the table', async () => (await waiting()) >= 1);
    await handOver();
    await until('the next to wait, too', async () => (await waiting()) >= 2);
    await stall.query('COMMIT');
    await stall.end();
    await untilStoredOnce(database, await scale.stop());
  });
});

describeWithMosquitto('replicas with MQTT_SHARED_GROUP', () => {
  let database: TestDatabase;
  let mosquitto: LoggedMosquitto;
  let first: Service;
  let second: Service;
  let scale: Scale;

  const env = (clientId: string): Record<string, string> => ({
    DATABASE_URL: database.url,
    ...mosquitto.broker.env,
    MQTT_CLIENT_ID: clientId,
    MQTT_SHARED_GROUP: 'replicas',
  });

  beforeAll(async () => {
    [database, mosquitto] = await Promise.all([createDatabase(), LoggedMosquitto.start()]);
    [first, second] = await Promise.all([Service.start(env('replica_1')), Service.start(env('replica_2'))]);
    await first.register(SCALE, 'weight_scale');
    scale = await Scale.near(first);
  });
  afterAll(async () => {
    await scale.end();
    await Promise.all([first.remove(), second.remove()]);
    await mosquitto.remove();
    await database.drop();
  });

  it('all are active, and each message is stored by one of them', async () => {
    for (const replica of [first, second])
      expect(await mqttOf(replica)).toMatchObject({
        role: 'active',
        connected: true,
        subscriptions: expect.arrayContaining(['$share/replicas/devices/+/data']),
      });
    await scale.publish(1_000);
    await untilStoredOnce(database, 1_000);
    const shares = await Promise.all([first, second].map(storedBy));
    expect(Math.min(...shares)).toBeGreaterThan(0);
    expect(shares.reduce((sum, share) => sum + share)).toBe(1_000);
  });

  it('what was the share of one that is killed is there when it comes back', async () => {
    scale.start();
    await scale.untilMore(500);
    await first.end('SIGKILL');
    await scale.untilMore(1_000);
    const sent = await scale.stop();
    // An offline member of the group goes on getting its share, into its session.
    expect((await readingsIn(database)).values).toBeLessThan(sent);
    await first.launch();
    await untilStoredOnce(database, sent);
    expect(await storedBy(first)).toBeGreaterThan(0);
  });

  it('two with the same client id do not fight for it: one stands by', async () => {
    const twin = await Service.start(env('replica_1'));
    expect(await untilOneActive([first, twin])).toBe(first);
    scale.start();
    await scale.untilMore(500);
    await first.end('SIGKILL');
    await until('the twin to take its share', async () => (await storedBy(twin)) > 0);
    await first.launch();
    expect(await untilOneActive([first, twin])).toBe(twin);
    await untilStoredOnce(database, await scale.stop());
    expect(mosquitto.holders('replica_1')).toBe('on, off, on, off, on');
    expect(mosquitto.holders('replica_2')).toBe('on');
    await twin.remove();
  });

  it('one that had the session to itself before leaves its own subscriptions', async () => {
    const loner = await Service.start({ ...env('replica_3'), MQTT_SHARED_GROUP: '' });
    await until('its subscriptions', async () => (await mqttOf(loner))['connected'] === true);
    await loner.end('SIGTERM');
    const joined = await Service.start(env('replica_3'));
    await until('it to have joined', async () => (await mqttOf(joined))['connected'] === true);
    const { rows } = await readingsIn(database);
    // Undated, they would all be stored twice.
    await scale.publish(300);
    await until('all to be stored', async () => (await readingsIn(database)).values === rows + 300);
    await joined.end('SIGTERM');
    expect(await readingsIn(database)).toEqual({ rows: rows + 300, values: rows + 300 });
    await Promise.all([loner.remove(), joined.remove()]);
  });
});

describeWithMosquitto('a broker that drops messages', () => {
  const ROOM = 10;
  let database: TestDatabase;
  let mosquitto: Mosquitto;
  let service: Service;

  beforeAll(async () => {
    [database, mosquitto] = await Promise.all([
      createDatabase(),
      Mosquitto.prepare([`max_queued_messages ${ROOM}`, `max_inflight_messages ${ROOM}`, 'sys_interval 1']),
    ]);
    await mosquitto.start();
    service = await Service.start({ DATABASE_URL: database.url, ...mosquitto.env });
    await service.register(SCALE, 'weight_scale');
  });
  afterAll(async () => {
    await service.remove();
    await mosquitto.remove();
    await database.drop();
  });

  const dropped = async (): Promise<unknown> => (await mqttOf(service))['broker_dropped_messages'];
  /** Publishes at QoS 1; resolves when the broker has acknowledged all, whatever it then does with them. */
  const publish = async (topic: string, message: (number: number) => string): Promise<void> => {
    const sender = await service.mqtt();
    const messages = Array.from({ length: 100 }, (_, index) => message(index));
    await Promise.all(messages.map((text) => sender.publishAsync(topic, text, { qos: 1 })));
    await sender.endAsync();
  };
  const metric = async (): Promise<string | undefined> =>
    /^mqtt_service_broker_dropped_messages_total .*$/m.exec((await service.get('/metrics')).text)?.[0];

  it('is seen in health, metrics and log', async () => {
    await until('the broker to have told its count', async () => (await dropped()) === 0);
    // Not the service's own queue, which is emptied all the time; the broker's count is one for all.
    const absent = { clientId: 'absent', clean: false };
    const client = await service.mqtt(absent);
    await client.subscribeAsync('elsewhere', { qos: 1 });
    await client.endAsync();
    await publish('elsewhere', String);

    await until('all that had no room', async () => (await dropped()) === 100 - ROOM);
    expect(await metric()).toBe(`mqtt_service_broker_dropped_messages_total ${100 - ROOM}`);
    expect(service.log).toMatch(/"level":50,.*The broker has dropped \d+ messages/);
    // It tells of the past; nothing is amiss with the service now.
    expect((await service.get('/health')).body.status).toBe('ok');
    expect((await service.get('/health/ready')).status).toBe(200);
  });

  it('is told of in the log when it dropped them in the absence of the service', async () => {
    await service.end();
    await publish(`devices/${SCALE}/data`, (number) =>
      JSON.stringify({ metric_type: 'weight', value: 50 + number }),
    );
    // The broker tells of its count once a second.
    const watch = await service.mqtt();
    let count = '';
    watch.on('message', (_topic, payload) => (count = payload.toString()));
    await watch.subscribeAsync('$SYS/broker/publish/messages/dropped');
    await until('the broker to have counted', () => count === String(2 * (100 - ROOM)));
    await watch.endAsync();

    await service.launch();
    await until('the log to tell', () => service.log.includes(`dropped ${count} messages before`));
    await untilStoredOnce(database, ROOM);
    expect(await dropped()).toBe(0);
  });
});

describeWithMosquitto('the Mosquitto configuration that is shipped', () => {
  const HOUR = 1_800_000; // messages, at 500 a second
  const PAYLOAD_BYTES = 200;
  /** What names places and accounts of the container, and not how much the broker keeps. */
  const OF_THE_CONTAINER =
    /^(per_listener_settings|listener|use_username_as_clientid|password_file|acl_file|persistence_location)\b/;

  const lines = readFileSync(join('docker', 'mosquitto', 'mosquitto.conf'), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  const settings = new Map(lines.map((line) => line.split(' ', 2) as [string, string]));
  const limit = (name: string, fallback: number): number => {
    const value = Number(settings.get(name) ?? fallback);
    return value === 0 ? Infinity : value;
  };

  it('has room for an hour without the service', () => {
    // The defaults are those of mosquitto.conf(5).
    expect(limit('max_queued_messages', 1_000)).toBeGreaterThanOrEqual(HOUR);
    expect(limit('max_queued_bytes', 0)).toBeGreaterThanOrEqual(HOUR * PAYLOAD_BYTES);
    expect(limit('memory_limit', 0)).toBe(Infinity);
    expect(settings.get('persistence')).toBe('true');
    expect(settings.get('persistent_client_expiration')).toMatch(/^\d+[dwmy]$/);
  });

  it('is taken by Mosquitto, which then keeps what the service is away for', async () => {
    const [database, mosquitto] = await Promise.all([
      createDatabase(),
      Mosquitto.prepare(lines.filter((line) => !OF_THE_CONTAINER.test(line))),
    ]);
    await mosquitto.start();
    const service = await Service.start({ DATABASE_URL: database.url, ...mosquitto.env });
    await service.register(SCALE, 'weight_scale');
    await service.end();
    const scale = await Scale.near(service);
    // Past what Mosquitto keeps unless told otherwise, and past what may be in flight.
    await scale.publish(10_000);
    await service.launch();
    await untilStoredOnce(database, 10_000);

    await scale.end();
    await service.remove();
    await mosquitto.remove();
    await database.drop();
  });
});
