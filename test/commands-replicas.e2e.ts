import { createDatabase, type TestDatabase } from './support/database.js';
import { FakeDevices } from './support/fake-device.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed)
  process.stderr.write('Commands of replicas not tested: Mosquitto is not installed\n');

describeWithMosquitto('commands at three replicas', () => {
  const ORDERS = 1_000;
  const DEVICES = Array.from({ length: 20 }, (_, index) => `scale_${index}`);
  let database: TestDatabase;
  let mosquitto: Mosquitto;
  let replicas: readonly Service[];
  let devices: FakeDevices;

  beforeAll(async () => {
    [database, mosquitto] = await Promise.all([createDatabase(), Mosquitto.prepare()]);
    await mosquitto.start();
    replicas = await Promise.all(
      [1, 2, 3].map(() => Service.start({ DATABASE_URL: database.url, ...mosquitto.env })),
    );
    const [first] = replicas as [Service];
    for (const id of DEVICES) await first.register(id, 'weight_scale');
    devices = await FakeDevices.of(first, ['acknowledged', 'completed']);
  });
  afterAll(async () => {
    await devices.end();
    await Promise.all(replicas.map((replica) => replica.remove()));
    await mosquitto.remove();
    await database.drop();
  });

  it('send 1,000 commands each: every one once, in the order of each device, and tell of it once', async () => {
    const [first] = replicas as [Service];
    const told = new Map<string, number>();
    const listener = await first.mqtt();
    listener.on('message', (_topic, payload) => {
      const { id } = JSON.parse(payload.toString('utf8')) as { id: string };
      told.set(id, (told.get(id) ?? 0) + 1);
    });
    await listener.subscribeAsync('events/+/+', { qos: 1 });
    const half = DEVICES.length / 2;
    await devices.online(...DEVICES.slice(0, half));
    const headers = {
      authorization: `Bearer ${await first.token()}`,
    };
    await Promise.all(
      replicas.map(async (replica) => {
        let next = 0;
        const worker = async (): Promise<void> => {
          while (next < ORDERS) {
            const deviceId = DEVICES[next % DEVICES.length] ?? '';
            next += 1;
            const body = { command: 'measure_now', expires_in: '1h' };
            const answer = await replica.post(`/devices/${deviceId}/command`, body, headers);
            expect(answer.status).toBe(202);
          }
        };
        await Promise.all(Array.from({ length: 8 }, worker));
      }),
    );
    await devices.online(...DEVICES.slice(half));
    await until(
      'all to be completed',
      async () => {
        const [row] = await database.query<{ count: string }>(
          `SELECT count(*) FROM device_commands WHERE status = 'completed'`,
        );
        return Number(row?.count) === 3 * ORDERS;
      },
      90_000,
    );
    const ledger = await database.query<{ device_id: string; command_id: string }>(
      'SELECT device_id, command_id FROM device_commands ORDER BY id',
    );
    expect(devices.received).toHaveLength(3 * ORDERS);
    for (const deviceId of DEVICES) {
      const ids = ledger.filter((row) => row.device_id === deviceId).map((row) => row.command_id);
      expect(devices.idsOf(deviceId)).toEqual(ids);
    }
    const due = ledger.flatMap(({ command_id: id }) =>
      ['queued', 'sent', 'acknowledged', 'completed'].map((status) => `${id}.${status}`),
    );
    await until('the broker to be told of all', () => due.every((id) => told.has(id)));
    expect(due.filter((id) => told.get(id) !== 1)).toEqual([]);
    await listener.endAsync();
  });
});
