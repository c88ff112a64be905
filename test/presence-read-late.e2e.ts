import { createDatabase } from './support/database.js';
import { Mosquitto } from './support/mosquitto.js';
import { MqttDevice } from './support/mqtt-device.js';
import { causesOf, untilStatus, viewOf } from './support/presence.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed)
  process.stderr.write('What a replica reads late not tested: Mosquitto is not installed\n');

describeWithMosquitto('what a replica of a shared group reads when it is back', () => {
  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'undoes no end that was heard meanwhile, after %s, and the next message does',
    async (signal) => {
      const [database, mosquitto] = await Promise.all([createDatabase(), Mosquitto.prepare()]);
      await mosquitto.start();
      const env = {
        DATABASE_URL: database.url,
        ...mosquitto.env,
        MQTT_SHARED_GROUP: 'replicas',
        DEVICE_OFFLINE_AFTER: '20s',
      };
      const away = await Service.start({ ...env, MQTT_CLIENT_ID: 'replica_a' });
      const other = await Service.start({ ...env, MQTT_CLIENT_ID: 'replica_b' });
      const ids = Array.from({ length: 10 }, (_, index) => `scale_${index}`);
      const devices: MqttDevice[] = [];
      for (const id of ids) {
        await other.register(id, 'weight_scale');
        devices.push(await MqttDevice.connect(other, id, 'one'));
        await untilStatus(other, id, 'online');
      }
      await away.end(signal);
      for (const device of devices) {
        await device.say({ status: 'online', session: 'one', battery: 50 });
        await device.weigh(70, { timestamp: new Date().toISOString() });
        await device.weigh(71);
        await device.weigh(72);
      }
      // One will to each replica in turn; those of the one that is away wait.
      for (const device of devices) device.kill();
      const gone = await until('the wills', async () => {
        const views = await Promise.all(ids.map(async (id) => ({ id, view: await viewOf(other, id) })));
        const offline = views.filter(({ view }) => view['status'] === 'offline').map(({ id }) => id);
        return offline.length >= ids.length / 2 && offline;
      });
      await away.launch();
      await until('all to be read', async () => {
        const views = await Promise.all(ids.map((id) => viewOf(other, id)));
        const rows = await database.query(
          `SELECT FROM service_replicas WHERE client_id = 'replica_a' AND heard_until IS NOT NULL`,
        );
        return rows.length === 1 && views.every((view) => view['last_data_at'] !== null);
      });
      for (const id of ids) await untilStatus(other, id, 'offline');
      for (const id of gone)
        expect(await causesOf(other, id)).toEqual(['online by status', 'offline by will']);

      const again = await MqttDevice.connect(other, ids[0] ?? '', 'two');
      await untilStatus(other, again.id, 'online');
      await again.say({ status: 'offline', session: 'two' });
      await untilStatus(other, again.id, 'offline');
      for (let index = 0; index < 2; index += 1) await again.weigh(73);
      await untilStatus(other, again.id, 'online');
      await again.end();
      await Promise.all([away.remove(), other.remove()]);
      await mosquitto.remove();
      await database.drop();
    },
  );
});
