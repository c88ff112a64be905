import { createDatabase, type TestDatabase } from './support/database.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed) process.stderr.write('The taken session not tested: Mosquitto is not installed\n');

/** As much later the one hears what the broker said. */
const LATE_MS = 1_500;

describeWithMosquitto('a session that another replica has taken', () => {
  let database: TestDatabase;
  let mosquitto: Mosquitto;
  /** Those of the first replica. */
  let toDatabase: TcpProxy;
  let toBroker: TcpProxy;
  let first: Service;
  let second: Service;

  beforeAll(async () => {
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
  });
  afterAll(async () => {
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

  it('leaves nothing to store twice, though it was received later by the one that had it before', async () => {
    const device = await second.mqtt();
    let published = 0;
    const publish = async (): Promise<void> => {
      published += 1;
      const payload = JSON.stringify({ metric_type: 'weight', value: 50 + published / 100 });
      await device.publishAsync('devices/scale_1/data', payload, { qos: 1 });
    };
    toBroker.delay = LATE_MS;
    await toDatabase.cut();
    await until('the second to have the session', async () => {
      await publish();
      return (await consumerOf(second))['connected'];
    });
    await until('all to be stored', async () => (await stored()) === published);
    await until('the first to hear of it', async () => !(await consumerOf(first))['connected']);
    await toDatabase.mend();
    await until('the first to have seen through what it had in hand', async () => {
      const [{ text }, { body }] = await Promise.all([first.get('/metrics'), first.get('/health/detailed')]);
      const seen = Number(/^mqtt_service_messages_stored_total (\d+)$/m.exec(text)?.[1]);
      return seen > 0 && body.details.ingest.in_flight === 0;
    });
    expect(await stored()).toBe(published);
    await device.endAsync();
  });
});
