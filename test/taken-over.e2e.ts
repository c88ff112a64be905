import { Client } from 'pg';
import { createDatabase, type TestDatabase } from './support/database.js';
import { LiveClient, type LiveMessage } from './support/live-client.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed) process.stderr.write('The taken session not tested: Mosquitto is not installed\n');

/** As much later the one hears what the broker said. */
const LATE_MS = 1_500;

describeWithMosquitto('what is in hand while the database is away, and delivered again', () => {
  let database: TestDatabase;
  let mosquitto: Mosquitto;
  /** Those of the first replica. */
  let toDatabase: TcpProxy;
  let toBroker: TcpProxy;
  let first: Service;
  let second: Service;
  let published = 0;

  beforeEach(async () => {
    [database, mosquitto] = await Promise.all([createDatabase(), Mosquitto.prepare()]);
    await mosquitto.start();
    [toDatabase, toBroker] = await Promise.all([
      TcpProxy.to(database.url),
      TcpProxy.to(`mqtt://127.0.0.1:${mosquitto.port}`),
    ]);
    await Promise.all([toDatabase.mend(), toBroker.mend()]);
    first = await Service.start({
      ...mosquitto.env,
      MQTT_BROKER_PORT: String(toBroker.port),
      DATABASE_URL: toDatabase.through(database.url),
    });
    second = await Service.start({ ...mosquitto.env, DATABASE_URL: database.url });
    await first.register('scale_1', 'weight_scale');
    published = 0;
  });
  afterEach(async () => {
    await Promise.all([first.remove(), second.remove()]);
    await Promise.all([toDatabase.cut(), toBroker.cut()]);
    await mosquitto.remove();
    await database.drop();
  });

  const consumerOf = async (replica: Service): Promise<Record<string, unknown>> =>
    (await replica.get('/health/detailed')).body.details.mqtt;
  const stored = async (): Promise<number> => {
    const [row] = await database.query<{ count: string }>('SELECT count(*) FROM device_readings');
    return Number(row?.count);
  };
  /** Each with a value of its own, and every other one with a date. */
  const publish = async (device: Awaited<ReturnType<Service['mqtt']>>): Promise<void> => {
    published += 1;
    const timestamp = new Date(Date.UTC(2024, 0, 1) + published * 1_000).toISOString();
    const payload = {
      metric_type: 'weight',
      value: 50 + published / 100,
      ...(published % 2 === 0 && { timestamp }),
    };
    await device.publishAsync('devices/scale_1/data', JSON.stringify(payload), { qos: 1 });
  };
  /** The first has lost the session, and the second has stored everything. */
  const takeOver = async (device: Awaited<ReturnType<Service['mqtt']>>): Promise<void> => {
    await toDatabase.cut();
    await until('the second to have the session', async () => {
      await publish(device);
      return (await consumerOf(second))['connected'];
    });
    await until('all to be stored', async () => (await stored()) === published);
    await until('the first to hear of it', async () => !(await consumerOf(first))['connected']);
  };
  const watch = async (replica: Service): Promise<{ watcher: LiveClient; told: () => unknown[] }> => {
    const watcher = await LiveClient.open(`ws://127.0.0.1:${replica.port}/ws/mqtt`, {
      authorization: `Bearer ${await replica.token()}`,
    });
    await watcher.hear('connected');
    const measurements = (): LiveMessage[] =>
      watcher.messages.filter(({ event }) => event === 'device.data.received');
    return { watcher, told: () => measurements().map(({ data }) => data['value']) };
  };
  const untilFirstIsThrough = async (): Promise<void> => {
    await toDatabase.mend();
    await until('the first to have seen through what it had in hand', async () => {
      const [{ text }, { body }] = await Promise.all([first.get('/metrics'), first.get('/health/detailed')]);
      const seen = Number(/^mqtt_service_messages_stored_total (\d+)$/m.exec(text)?.[1]);
      return seen > 0 && body.details.ingest.in_flight === 0;
    });
  };

  it('is stored once, though the one that lost the session received it after the next', async () => {
    const device = await second.mqtt();
    toBroker.delay = LATE_MS;
    await takeOver(device);
    await untilFirstIsThrough();
    expect(await stored()).toBe(published);
    await device.endAsync();
  });

  it('is told once, though the one that has told it has died', async () => {
    const device = await second.mqtt();
    await takeOver(device);
    const witness = await Service.start({ ...mosquitto.env, DATABASE_URL: database.url });
    const { watcher, told } = await watch(witness);
    await second.end('SIGKILL');
    await until('it to be found dead', async () => {
      const rows = await database.query<{ ended: boolean }>(
        'SELECT ended FROM stream_epochs ORDER BY epoch DESC OFFSET 1 LIMIT 1',
      );
      return rows[0]?.ended === true;
    });
    await untilFirstIsThrough();
    await publish(device);
    const last = 50 + published / 100;
    await until('the last to be told', () => told().includes(last));
    expect(told()).toEqual([last]);
    watcher.end();
    await device.endAsync();
    await witness.remove();
  });

  it('is told once, though one replica has it in hand twice and stores the repeat first', async () => {
    await second.end('SIGTERM');
    const { watcher, told } = await watch(first);
    const device = await second.mqtt();
    const waiting = async (): Promise<number[]> =>
      (
        await database.query<{ pid: number }>(
          `SELECT l.pid FROM pg_locks l JOIN pg_stat_activity USING (pid) WHERE NOT granted ORDER BY query_start`,
        )
      ).map(({ pid }) => pid);
    const stall = new Client({ connectionString: database.url });
    await stall.connect();
    await stall.query('BEGIN; LOCK TABLE device_readings IN EXCLUSIVE MODE');
    await publish(device);
    const [delivery = 0] = await until('it to be about to be stored', async () => {
      const pids = await waiting();
      return pids.length === 1 && pids;
    });
    await toBroker.cut();
    await until('the connection to be lost', async () => !(await consumerOf(first))['connected']);
    await toBroker.mend();
    await until('the repeat to be about to be stored', async () => (await waiting()).length === 2);
    await database.query('SELECT pg_terminate_backend($1)', [delivery]);
    await until('the first delivery to be behind it', async () => {
      const pids = await waiting();
      return pids.length === 2 && !pids.includes(delivery);
    });
    await stall.query('COMMIT');
    await stall.end();
    await until('it to be stored', async () => (await stored()) === 1);
    await publish(device);
    await until('the last to be told', () => told().includes(50 + published / 100));
    expect(told()).toEqual([50.01, 50.02]);
    watcher.end();
    await device.endAsync();
  });
});
