import { createDatabase, type TestDatabase } from './support/database.js';
import { FakeDevices } from './support/fake-device.js';
import { Mosquitto } from './support/mosquitto.js';
import { untilStatus } from './support/presence.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed)
  process.stderr.write('The order of events not tested: Mosquitto is not installed\n');

/** What the broker is told of commands, by command: their statuses, each where it was told first. */
class Told {
  private readonly names = new Set<string>();
  private readonly statuses = new Map<string, string[]>();

  static async by(service: Service): Promise<{ told: Told; end: () => Promise<void> }> {
    const told = new Told();
    const options = { clientId: crypto.randomUUID(), clean: false, reconnectPeriod: 100 };
    const listener = await service.mqtt(options);
    listener.on('error', () => undefined);
    listener.on('message', (_topic, payload) => {
      const event = JSON.parse(payload.toString('utf8')) as {
        id: string;
        type: string;
        data: Record<string, unknown>;
      };
      if (event.type.startsWith('command.') && !told.names.has(event.id)) {
        told.names.add(event.id);
        const id = String(event.data['command_id']);
        told.statuses.set(id, [...told.of(id), String(event.data['status'])]);
      }
    });
    await listener.subscribeAsync('events/+/+', { qos: 1 });
    return { told, end: () => listener.endAsync(true) };
  }

  of(commandId: string): readonly string[] {
    return this.statuses.get(commandId) ?? [];
  }
}

const order = async (service: Service, deviceId: string, expiresIn = '1h'): Promise<string> => {
  const body = { command: 'measure_now', expires_in: expiresIn };
  const answer = await service.post(`/devices/${deviceId}/command`, body);
  expect(answer.status).toBe(202);
  return String(answer.body.command_id);
};

const ANSWERED = ['queued', 'sent', 'acknowledged', 'completed'];

describeWithMosquitto('the statuses of a command are told in their order', () => {
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

  it('when the broker was away while they were ordered', async () => {
    const service = await Service.start({ DATABASE_URL: database.url, ...mosquitto.env });
    await service.register('scale_1', 'weight_scale');
    const devices = await FakeDevices.of(service, ['acknowledged', 'completed']);
    devices.client.on('error', () => undefined);
    const { told, end } = await Told.by(service);
    await devices.online('scale_1');
    await untilStatus(service, 'scale_1', 'online');
    for (let round = 0; round < 8; round += 1) {
      await mosquitto.stop();
      const ids: string[] = [];
      for (let index = 0; index < 5; index += 1) ids.push(await order(service, 'scale_1'));
      const cancelled = await order(service, 'scale_1');
      const answer = await service.post(`/devices/scale_1/commands/${cancelled}/cancel`, {});
      expect(answer.body.status).toBe('cancelled');
      const expired = await order(service, 'scale_1', '1s');
      // From then on they count as late: others may tell of them.
      await until('one to be over', async () => {
        const { body } = await service.read(`/devices/scale_1/commands/${expired}`);
        return body.status === 'expired';
      });
      await mosquitto.start();
      await until('all to be told', () => ids.every((id) => told.of(id).length === ANSWERED.length));
      await until('the end of the others', () =>
        [cancelled, expired].every((id) => told.of(id).length === 2),
      );
      for (const id of ids) expect(told.of(id)).toEqual(ANSWERED);
      expect([told.of(cancelled), told.of(expired)]).toEqual([
        ['queued', 'cancelled'],
        ['queued', 'expired'],
      ]);
    }
    await Promise.all([devices.end(), end()]);
    await service.remove();
  });

  it('when the replica that took the orders has lost the broker: another tells, and the first not again', async () => {
    const proxy = await TcpProxy.to(`mqtt://127.0.0.1:${mosquitto.port}`);
    await proxy.mend();
    const env = { DATABASE_URL: database.url, ...mosquitto.env };
    const other = await Service.start(env);
    const first = await Service.start({ ...env, MQTT_BROKER_PORT: String(proxy.port) });
    await other.register('scale_1', 'weight_scale');
    const devices = await FakeDevices.of(other, ['completed']);
    const { told, end } = await Told.by(other);
    await devices.online('scale_1');
    await untilStatus(other, 'scale_1', 'online');
    await proxy.cut();
    const ids: string[] = [];
    for (let index = 0; index < 4; index += 1) ids.push(await order(first, 'scale_1'));
    await until('all to be told', () => ids.every((id) => told.of(id).includes('completed')));
    await proxy.mend();
    await first.untilReady();
    const last = await order(first, 'scale_1');
    await until('the next', () => told.of(last).includes('completed'));
    for (const id of [...ids, last]) expect(told.of(id)).toEqual(['queued', 'sent', 'completed']);
    await Promise.all([devices.end(), end()]);
    await Promise.all([first.remove(), other.remove()]);
  });

  it('when the replicas share the messages, and a device answers at once', async () => {
    const replicas = await Promise.all(
      [1, 2, 3].map((index) =>
        Service.start({
          DATABASE_URL: database.url,
          ...mosquitto.env,
          MQTT_SHARED_GROUP: 'replicas',
          MQTT_CLIENT_ID: `replica_${index}`,
        }),
      ),
    );
    const [first] = replicas as [Service];
    const ids = Array.from({ length: 10 }, (_, index) => `scale_${index}`);
    for (const id of ids) await first.register(id, 'weight_scale');
    const devices = await FakeDevices.of(first, ['acknowledged', 'completed']);
    const { told, end } = await Told.by(first);
    await devices.online(...ids);
    for (const id of ids) await untilStatus(first, id, 'online');
    const ordered: string[] = [];
    for (let index = 0; index < 150; index += 1)
      ordered.push(await order(replicas[index % 3] as Service, ids[index % 10] as string));
    await until('all to be told', () => ordered.every((id) => told.of(id).includes('completed')));
    // The answers go to several replicas: where the second is taken in first, nothing is told of the other.
    for (const id of ordered) {
      const statuses = told.of(id);
      expect(statuses).toEqual(ANSWERED.filter((status) => statuses.includes(status)));
      expect(statuses).toEqual(expect.arrayContaining(['queued', 'sent', 'completed']));
    }
    await Promise.all([devices.end(), end()]);
    await Promise.all(replicas.map((replica) => replica.remove()));
  });
});
