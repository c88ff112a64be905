import { join } from 'node:path';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Mosquitto } from './support/mosquitto.js';
import { MqttDevice } from './support/mqtt-device.js';
import { historyOf, idOf, listen, untilStatus, type ToldEvent } from './support/presence.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed)
  process.stderr.write('The order of changes of presence not tested: Mosquitto is not installed\n');

describeWithMosquitto('the changes of a device are told in their order, each once', () => {
  let database: TestDatabase;
  let mosquitto: Mosquitto;

  beforeEach(async () => {
    [database, mosquitto] = await Promise.all([createDatabase(), Mosquitto.prepare()]);
    await mosquitto.start();
  });
  afterEach(async () => {
    await mosquitto.remove();
    await database.drop();
  });

  const untilNoted = (): Promise<unknown> =>
    until('that to be noted', async () => {
      const rows = await database.query('SELECT FROM device_status_changes WHERE tell_after IS NOT NULL');
      return rows.length === 0;
    });

  it('when the service was killed after it had stored the first: the second takes it along', async () => {
    const env = { DATABASE_URL: database.url, ...mosquitto.env };
    const service = await Service.start(env);
    await service.register('scale_1', 'weight_scale');
    const listener = await service.mqtt({ clientId: 'listener', clean: false });
    const told = await listen(listener);
    await service.end();
    const killed = await Service.prepare({
      ...env,
      KILL_AT: 'presence committed',
      NODE_OPTIONS: `--import ${join(process.cwd(), 'test', 'support', 'kill-at.mjs')}`,
    });
    const device = await MqttDevice.connect(service, 'scale_1', 'one');
    expect((await killed.launchInVain()).code).toBeNull();
    await service.launch();
    await service.untilReady();
    const watcher = await service.live(`?token=${await service.token()}`);
    await watcher.hear('connected');
    device.kill();
    await until('both', () => told.length >= 2);
    const ids = (await historyOf(service, 'scale_1')).map((change) => idOf(change, 'scale_1')).reverse();
    expect(told.map(({ type, id }) => [type, id])).toEqual([
      ['device.connected', ids[0]],
      ['device.disconnected', ids[1]],
    ]);
    const live = (): string[] =>
      watcher.messages.map(({ event }) => event).filter((event) => event.startsWith('device.'));
    await until('the watcher to be told', () => live().length >= 2);
    expect(live()).toEqual(['device.connected', 'device.disconnected']);
    await untilNoted();
    watcher.end();
    await listener.endAsync(true);
    await Promise.all([service.remove(), killed.remove()]);
  });

  it('whichever of two replicas makes which', async () => {
    const IDS = Array.from({ length: 20 }, (_, index) => `scale_${index}`);
    const env = { DATABASE_URL: database.url, ...mosquitto.env, MQTT_SHARED_GROUP: 'replicas' };
    const replicas = await Promise.all(
      ['a', 'b'].map((id) => Service.start({ ...env, MQTT_CLIENT_ID: `replica_${id}` })),
    );
    const service = replicas[0] as Service;
    for (const id of IDS) await service.register(id, 'weight_scale');
    const listener = await service.mqtt();
    const told = await listen(listener);
    const ROUNDS = 10;
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const status of ['online', 'offline'])
        await Promise.all(
          IDS.map((id) =>
            listener.publishAsync(`devices/${id}/status`, JSON.stringify({ status }), { qos: 1 }),
          ),
        );
    }
    // Of those that name no session, the last to be taken in holds.
    await untilNoted();
    for (const id of IDS) {
      const ids = (await historyOf(service, id)).map((change) => idOf(change, id)).reverse();
      const ofDevice = (): ToldEvent[] => told.filter(({ subject }) => subject === id);
      await until('all to be told', () => ofDevice().length >= ids.length);
      expect(
        ofDevice()
          .slice(0, ids.length)
          .map((event) => event.id),
      ).toEqual(ids);
    }
    await listener.endAsync(true);
    await Promise.all(replicas.map((replica) => replica.remove()));
  });

  it('by the other replica, when the one that made a change has lost the broker', async () => {
    const proxy = await TcpProxy.to(`mqtt://127.0.0.1:${mosquitto.port}`);
    await proxy.mend();
    const env = { DATABASE_URL: database.url, ...mosquitto.env };
    const other = await Service.start({ ...env, DEVICE_OFFLINE_AFTER: '20s' });
    const first = await Service.start({
      ...env,
      MQTT_BROKER_PORT: String(proxy.port),
      // It looks for what is untold much more often than the other does.
      DEVICE_OFFLINE_AFTER: '1s',
    });
    for (const id of ['scale_1', 'scale_2']) await other.register(id, 'weight_scale');
    const devices = await Promise.all(
      ['scale_1', 'scale_2'].map((id) => MqttDevice.connect(other, id, 'one')),
    );
    for (const id of ['scale_1', 'scale_2']) await untilStatus(other, id, 'online');
    const listener = await other.mqtt();
    const told = await listen(listener);
    await untilNoted();
    await proxy.cut();
    await until('it to be known', async () => (await first.get('/health/ready')).status !== 200);
    expect((await first.delete('/devices/scale_1')).status).toBe(204);
    await database.query(
      `UPDATE device_status_changes SET tell_after = now() - interval '1 second' WHERE tell_after IS NOT NULL`,
    );
    const ofDevice = (id: string): ToldEvent[] => told.filter(({ subject }) => subject === id);
    await until('the other to tell', () => ofDevice('scale_1').length > 0);
    await untilNoted();
    // It looks once a second for what others have told.
    const noted = performance.now();
    await until('the first to know', () => performance.now() - noted > 2_500);
    await proxy.mend();
    await first.untilReady();
    expect((await first.delete('/devices/scale_2')).status).toBe(204);
    await until('the next', () => ofDevice('scale_2').length > 0);
    expect(ofDevice('scale_1')).toHaveLength(1);
    await listener.endAsync(true);
    await Promise.all(devices.map((device) => device.end()));
    await Promise.all([first.remove(), other.remove()]);
    await proxy.cut();
  });
});
