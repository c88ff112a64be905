import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from './support/database.js';
import { FakeDevices, type Manners } from './support/fake-device.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed) process.stderr.write('Claims that lapse not tested: Mosquitto is not installed\n');

/** One way between a replica and the broker: its first command is with the device long before it hears of that. */
const DELAY_MS = 1_500;

describeWithMosquitto(
  'a replica that stands still between the first command of a claim and the others',
  () => {
    let database: TestDatabase;
    let mosquitto: Mosquitto;
    let proxy: TcpProxy;
    let frozen: Service;
    let other: Service;
    let devices: FakeDevices;
    let ids: string[];

    const statuses = async (deviceId: string): Promise<string[]> =>
      (await other.read(`/devices/${deviceId}/commands`)).body.data
        .map(({ status }: { status: string }) => status)
        .reverse();

    beforeAll(async () => {
      [database, mosquitto] = await Promise.all([createDatabase(), Mosquitto.prepare()]);
      await mosquitto.start();
      proxy = await TcpProxy.to(`mqtt://127.0.0.1:${mosquitto.port}`);
      await proxy.mend();
    });
    afterAll(async () => {
      await proxy.cut();
      await mosquitto.remove();
      await database.drop();
    });
    afterEach(async () => {
      await devices.end();
      await frozen.end('SIGKILL');
      await Promise.all([frozen.remove(), other.remove()]);
    });

    /** It has written the first of six, and knows nothing of it yet. */
    const freeze = async (deviceId: string, manners: Manners): Promise<void> => {
      const env = { DATABASE_URL: database.url, ...mosquitto.env };
      // The first one started reads what devices say, and sends.
      frozen = await Service.start({ ...env, MQTT_BROKER_PORT: String(proxy.port) });
      other = await Service.start(env);
      for (const id of [deviceId, `${deviceId}_marker`]) await frozen.register(id, 'glucose_meter');
      const { port, username, password } = mosquitto;
      const mqtt = (options: IClientOptions = {}): Promise<MqttClient> =>
        connectAsync({ ...options, host: '127.0.0.1', port, username, password });
      devices = await FakeDevices.of({ mqtt }, manners);
      await devices.online(`${deviceId}_marker`);
      ids = [];
      for (let index = 0; index < 6; index += 1) {
        const answer = await other.post(`/devices/${deviceId}/command`, { command: 'measure_now' });
        ids.push(answer.body.command_id);
      }
      proxy.delay = DELAY_MS;
      await devices.online(deviceId);
      await until('the first', () => devices.idsOf(deviceId).length === 1);
      process.kill(frozen.pid, 'SIGSTOP');
      expect(devices.idsOf(deviceId)).toEqual(ids.slice(0, 1));
    };

    /** Until it has sent one more, of another device, so that no other is under way. */
    const goOn = async (deviceId: string): Promise<void> => {
      proxy.delay = 0;
      process.kill(frozen.pid, 'SIGCONT');
      const last = await until('it to send again', async () => {
        const { body } = await frozen.post(`/devices/${deviceId}_marker/command`, { command: 'identify' });
        return body.status === 'sent' && body.command_id;
      });
      await until('that', () => devices.idsOf(`${deviceId}_marker`).includes(last));
    };

    it('sends none of those that were cancelled', async () => {
      await freeze('meter_1', []);
      // What the other replica hears when it reads in its place.
      await database.query(`UPDATE medical_devices SET status = 'offline' WHERE device_id = 'meter_1'`);
      for (const id of ids) {
        const cancel = `/devices/meter_1/commands/${id}/cancel`;
        await until(
          'it to be let go',
          async () => (await other.post(cancel, {})).body.status === 'cancelled',
        );
      }
      await goOn('meter_1');
      expect(devices.idsOf('meter_1')).toEqual(ids.slice(0, 1));
      expect(await statuses('meter_1')).toEqual(Array(6).fill('cancelled'));
    });

    it('sends none of those for the patient before', async () => {
      await freeze('meter_2', []);
      expect((await other.patch('/devices/meter_2', { patient_id: 7 })).status).toBe(200);
      await until('all to be cancelled', async () =>
        (await statuses('meter_2')).every((status) => status === 'cancelled'),
      );
      await goOn('meter_2');
      expect(devices.idsOf('meter_2')).toEqual(ids.slice(0, 1));
    });

    it('sends none again that another replica has sent, and that are completed', async () => {
      await freeze('meter_3', ['completed']);
      await until('all to be completed', async () =>
        (await statuses('meter_3')).every((status) => status === 'completed'),
      );
      const received = devices.idsOf('meter_3');
      // The first twice, where its answer had not been read when it was taken up: nobody knew whether the broker had it.
      expect(received.slice(-5)).toEqual(ids.slice(1));
      expect(new Set(received.slice(0, -5))).toEqual(new Set(ids.slice(0, 1)));
      await goOn('meter_3');
      expect(devices.idsOf('meter_3')).toEqual(received);
    });
  },
);
