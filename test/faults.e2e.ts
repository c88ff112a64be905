import type { MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed) process.stderr.write('Faults not tested: Mosquitto is not installed\n');

describeWithMosquitto('with an external database and broker', () => {
  let database: TestDatabase;
  let way: TcpProxy;
  let mosquitto: Mosquitto;
  let service: Service;
  let sent = 0;

  beforeAll(async () => {
    [database, mosquitto] = await Promise.all([createDatabase(), Mosquitto.prepare()]);
    way = await TcpProxy.to(database.url);
    service = await Service.prepare({ DATABASE_URL: way.through(database.url), ...mosquitto.env });
  });
  afterAll(async () => {
    await service.remove();
    await way.cut();
    await mosquitto.remove();
    await database.drop();
  });

  const ready = async (): Promise<unknown> => {
    const { status, body } = await service.get('/health/ready');
    return { status, ...body };
  };
  /** Publishes messages whose values are all different; resolves when the broker has them all. */
  const publish = async (device: MqttClient, count: number, dated = true): Promise<void> => {
    const messages = Array.from({ length: count }, () => {
      sent += 1;
      const timestamp = new Date(Date.UTC(2024, 0, 1) + sent * 1_000).toISOString();
      return JSON.stringify({ metric_type: 'weight', value: 50 + sent / 100, ...(dated && { timestamp }) });
    });
    await Promise.all(
      messages.map((message) => device.publishAsync('devices/scale_1/data', message, { qos: 1 })),
    );
  };
  const stored = async (): Promise<{ rows: number; values: number }> => {
    const [row] = await database.query<{ rows: string; values: string }>(
      'SELECT count(*) AS rows, count(DISTINCT value) AS values FROM device_readings',
    );
    return { rows: Number(row?.rows), values: Number(row?.values) };
  };
  const untilAllStored = (): Promise<unknown> =>
    until(`${sent} readings, each once`, async () => (await stored()).values === sent, 40_000).then(
      async () => expect(await stored()).toEqual({ rows: sent, values: sent }),
    );

  it('comes up without either, says so, and connects when it can', async () => {
    await service.launch();
    expect((await service.get('/health')).body).toMatchObject({
      status: 'degraded',
      version: expect.any(String),
    });
    expect(await ready()).toMatchObject({
      status: 'unavailable',
      checks: { database: 'down', mqtt: 'down' },
    });
    expect((await service.get('/health/live')).status).toBe(200);
    const detailed = await service.get('/health/detailed');
    expect(detailed.status).toBe(503);
    expect(detailed.body).toMatchObject({
      status: 'error',
      error: { database: { status: 'down' }, mqtt: { status: 'down' } },
    });
    const refused = await service.register('scale_1', 'weight_scale');
    expect({ status: refused.status, code: refused.body.code }).toEqual({
      status: 503,
      // Nothing is changed that could not be written down.
      code: 'audit_unavailable',
    });

    await way.mend();
    await until(
      'the database',
      async () => (await service.get('/health/ready')).body.checks.database === 'up',
    );
    expect(await ready()).toMatchObject({ checks: { mqtt: 'down' } });
    await mosquitto.start();
    await service.untilReady();
    expect((await service.register('scale_1', 'weight_scale')).status).toBe(201);
  });

  it('loses nothing while the database is away', async () => {
    const device = await service.mqtt();
    await publish(device, 100);
    await way.cut();
    await publish(device, 400);
    await until('the service to notice', async () => (await service.get('/health/ready')).status === 503);
    await publish(device, 400);
    await until(
      'messages that wait',
      async () => (await service.get('/health/detailed')).body.details.ingest.in_flight > 0,
    );
    expect((await service.read('/devices/scale_1/data')).body.code).toBe('database_unavailable');
    await way.mend();
    await untilAllStored();
    await service.untilReady();
    await device.endAsync();
  });

  it('loses nothing while the service is away, killed with messages in hand', async () => {
    const device = await service.mqtt();
    await way.cut();
    await publish(device, 300, false);
    await until(
      'messages in hand',
      async () => (await service.get('/health/detailed')).body.details.ingest.in_flight > 0,
    );
    await service.end('SIGKILL');
    await publish(device, 300, false);
    await way.mend();
    await service.launch();
    await untilAllStored();
    await device.endAsync();
  });

  it('stores an undated message once although it is delivered again', async () => {
    const device = await service.mqtt();
    // Kept from being acknowledged, not from being committed: the broker is told so late that the service dies first.
    for (let round = 0; round < 3; round += 1) {
      const burst = publish(device, 500, false);
      await until('some of them', async () => (await stored()).values > sent - 400);
      await service.end('SIGKILL');
      await burst;
      await service.launch();
      await untilAllStored();
    }
    await device.endAsync();
  });

  it('loses nothing over a restart of the broker', async () => {
    const device = await service.mqtt();
    await publish(device, 200);
    await device.endAsync();
    await mosquitto.stop();
    await until('the service to notice', async () => (await service.get('/health/ready')).status === 503);
    await mosquitto.start();
    await service.untilReady();
    const again = await service.mqtt();
    await publish(again, 200);
    await untilAllStored();
    await again.endAsync();
  });

  it('stores an undated message once when database and broker go and come back', async () => {
    const device = await service.mqtt();
    await way.cut();
    await publish(device, 200, false);
    await device.endAsync();
    await until(
      'messages in hand',
      async () => (await service.get('/health/detailed')).body.details.ingest.in_flight > 0,
    );
    await mosquitto.stop();
    await mosquitto.start();
    // Without the database nobody knows who holds the session, and nothing is fetched that could not be stored: the
    // messages in hand wait for the database, and are delivered again once they are stored.
    await way.mend();
    await untilAllStored();
    await service.untilReady();
  });

  it('finishes what it has begun when told to stop, and keeps its session', async () => {
    const device = await service.mqtt();
    const burst = publish(device, 2_000);
    await until(
      'the first',
      async () => (await service.get('/health/detailed')).body.details.ingest.in_flight > 0,
    );
    expect(await service.end('SIGTERM')).toBe(0);
    await burst;
    await service.launch();
    await untilAllStored();
    await device.endAsync();
  });

  it('migrates once when several start together', async () => {
    const fresh = await createDatabase();
    const replicas = await Promise.all(
      ['a', 'b', 'c'].map((id) =>
        Service.start({ DATABASE_URL: fresh.url, ...mosquitto.env, MQTT_CLIENT_ID: `replica_${id}` }),
      ),
    );
    const run = await fresh.query<{ name: string }>('SELECT name FROM migrations');
    expect(new Set(run.map(({ name }) => name)).size).toBe(run.length);
    await Promise.all(replicas.map((replica) => replica.remove()));
    await fresh.drop();
  });

  it('says when the broker refuses the account, and goes on trying', async () => {
    const stranger = await Service.prepare({
      DATABASE_URL: database.url,
      ...mosquitto.env,
      MQTT_PASSWORD: 'wrong',
    });
    await stranger.launch();
    await until('the log to say so', () => /Not authorized/i.test(stranger.log));
    await until(
      'the database',
      async () => (await stranger.get('/health/ready')).body.checks.database === 'up',
    );
    expect((await stranger.get('/health/ready')).body.checks.mqtt).toBe('down');
    expect(stranger.log).not.toContain('wrong');
    await stranger.remove();
  });
});
