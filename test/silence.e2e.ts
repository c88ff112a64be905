import { createDatabase, type TestDatabase } from './support/database.js';
import { Mosquitto } from './support/mosquitto.js';
import { MqttDevice } from './support/mqtt-device.js';
import { causesOf, untilStatus } from './support/presence.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed) process.stderr.write('Silence not tested: Mosquitto is not installed\n');

const SILENCE_MS = 2_000;

/** Devices of which nothing has been heard for so long that they would have been taken for silent many times. */
const unheard = async (database: TestDatabase): Promise<string[]> => {
  const rows = await database.query<{ device_id: string }>(
    `SELECT device_id FROM medical_devices WHERE last_seen < now() - interval '${3 * SILENCE_MS} ms' ORDER BY id`,
  );
  return rows.map(({ device_id }) => device_id);
};

describeWithMosquitto('silence, of replicas that share the messages', () => {
  let database: TestDatabase;
  let mosquitto: Mosquitto;
  let there: Service;
  let away: Service;
  /** The broker deals in turn: of two that speak in turn, each speaks to one replica. */
  let talkers: readonly [MqttDevice, MqttDevice];
  let talk: NodeJS.Timeout | undefined;

  beforeAll(async () => {
    [database, mosquitto] = await Promise.all([createDatabase(), Mosquitto.prepare()]);
    await mosquitto.start();
    const env = {
      DATABASE_URL: database.url,
      ...mosquitto.env,
      MQTT_SHARED_GROUP: 'replicas',
      DEVICE_OFFLINE_AFTER: `${SILENCE_MS}ms`,
    };
    [there, away] = await Promise.all([
      Service.start({ ...env, MQTT_CLIENT_ID: 'there' }),
      Service.start({ ...env, MQTT_CLIENT_ID: 'away' }),
    ]);
    for (const id of ['talker_1', 'talker_2', 'silent', 'quiet']) await there.register(id, 'weight_scale');
    talkers = [
      await MqttDevice.connect(there, 'talker_1', 'one'),
      await MqttDevice.connect(there, 'talker_2', 'one'),
    ];
    const [one, two] = talkers;
    talk = setInterval(() => void one.weigh(70).then(() => two.weigh(70)), 100);
  });
  afterAll(async () => {
    clearInterval(talk);
    await Promise.all(talkers.map((device) => device.end()));
    await Promise.all([there.remove(), away.remove()]);
    await mosquitto.remove();
    await database.drop();
  });

  const timeouts = async (): Promise<string[]> => {
    const rows = await database.query<{ device_id: string }>(
      `SELECT device_id FROM device_status_changes WHERE cause = 'timeout' ORDER BY id`,
    );
    return rows.map(({ device_id }) => device_id);
  };
  const connect = async (id: string): Promise<MqttDevice> => {
    const device = await MqttDevice.connect(there, id, 'one');
    await untilStatus(there, id, 'online');
    return device;
  };

  it('is told of one that is silent, and not of those that speak to either', async () => {
    const device = await connect('silent');
    await untilStatus(there, 'silent', 'offline');
    expect(await timeouts()).toEqual(['silent']);
    await device.end();
  });

  it('is not told while one is away, whose session keeps what devices say', async () => {
    // While both are there: what is dealt to the one that is not would not be heard.
    const device = await connect('quiet');
    await away.end('SIGKILL');
    const silentToUs = await until('nothing to be heard of some', async () => {
      const ids = await unheard(database);
      return ids.includes('quiet') && ids.some((id) => id.startsWith('talker')) && ids;
    });
    expect(silentToUs).not.toEqual(expect.arrayContaining(['talker_1', 'talker_2']));
    expect(await timeouts()).toEqual(['silent']);
    expect(there.log).toContain('its messages may wait in the session of another replica, such as away');

    await away.launch();
    await untilStatus(there, 'quiet', 'offline');
    expect(await timeouts()).toEqual(['silent', 'quiet']);
    for (const id of ['talker_1', 'talker_2'])
      expect(await causesOf(there, id)).toEqual(['online by status']);
    await until('that to be in the log', () => there.log.includes('Devices are taken for silent again'));
    await device.end();
  });

  it('is told again when the session of one that does not come back has expired', async () => {
    await away.end('SIGKILL');
    clearInterval(talk);
    await until('nothing to be heard', async () => (await unheard(database)).length === 4);
    expect(await timeouts()).toEqual(['silent', 'quiet']);
    const lastAlive = (ago: string): Promise<unknown> =>
      database.query(
        `UPDATE service_replicas SET alive_at = now() - interval '${ago}' WHERE client_id = 'away'`,
      );
    const settled = there.log.length;
    await lastAlive('7 days');
    await until('it to be counted all the same', async () => {
      const [row] = await database.query<{ heard: boolean }>(
        `SELECT heard_until > now() - interval '1 second' AS heard FROM service_replicas WHERE client_id = 'there'`,
      );
      return row?.heard;
    });
    expect(await timeouts()).toEqual(['silent', 'quiet']);
    await lastAlive('7 days 5 minutes');
    await until('both to be offline', async () => (await timeouts()).length === 4);
    expect(there.log.slice(settled)).toContain('Devices are taken for silent again');
  });
});

describeWithMosquitto('silence, behind what has waited for the service', () => {
  const BACKLOG = 300;
  let database: TestDatabase;
  let mosquitto: Mosquitto;
  let service: Service;

  beforeAll(async () => {
    [database, mosquitto] = await Promise.all([
      createDatabase(),
      // One at a time, so that it takes long, and nothing waits long once it has been handed over.
      Mosquitto.prepare(['max_inflight_messages 1']),
    ]);
    await mosquitto.start();
    service = await Service.start({
      DATABASE_URL: database.url,
      ...mosquitto.env,
      DEVICE_OFFLINE_AFTER: `${SILENCE_MS}ms`,
      MQTT_PROTOCOL_VERSION: '3.1.1',
      INGEST_BATCH_AGE: '30ms',
    });
    for (const id of ['first', 'last', 'silent']) await service.register(id, 'weight_scale');
  });
  afterAll(async () => {
    await service.remove();
    await mosquitto.remove();
    await database.drop();
  });

  it('is not told before all of it is taken in', async () => {
    const devices = await Promise.all(
      ['first', 'last', 'silent'].map((id) => MqttDevice.connect(service, id, 'one')),
    );
    const [first, last] = devices as [MqttDevice, MqttDevice, MqttDevice];
    for (const { id } of devices) await untilStatus(service, id, 'online');
    await service.end('SIGKILL');
    const waiting = Array.from({ length: BACKLOG }, (_, number) => first.weigh(50 + number / 100));
    await Promise.all(waiting);
    const talk = setInterval(() => void last.weigh(70), 500);
    try {
      await service.launch();
      await until('nothing to be heard of the last', async () => (await unheard(database)).includes('last'));
      await untilStatus(service, 'silent', 'offline');
      expect(await causesOf(service, 'last')).toEqual(['online by status']);
      const [row] = await database.query<{ count: string }>(
        `SELECT count(*) FROM device_readings WHERE device_id = 'first'`,
      );
      expect(Number(row?.count)).toBe(BACKLOG);
    } finally {
      clearInterval(talk);
      await Promise.all(devices.map((device) => device.end()));
    }
  });
});
