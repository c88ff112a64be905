import { setTimeout as sleep } from 'node:timers/promises';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const ORDER = { command: 'measure_now', expires_in: '1h' };

describe('commands where the clocks of replicas are apart', () => {
  let database: TestDatabase;
  let service: Service;

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({ DATABASE_URL: database.url });
  });
  afterAll(async () => {
    await service.remove();
    await database.drop();
  });

  const pathOf = (deviceId: string, { command_id: id }: { command_id: string }): string =>
    `/devices/${deviceId}/commands/${id}`;
  const statusAt = async (path: string): Promise<string> => (await service.read(path)).body.status as string;

  it('are for the patient whose the device was when they were ordered', async () => {
    await service.register('scale_1', 'weight_scale', 1);
    const before = await service.post('/devices/scale_1/command', ORDER);
    await service.patch('/devices/scale_1', { patient_id: 2 });
    // As a replica would have dated it whose clock is an hour ahead.
    await database.query(
      `UPDATE medical_devices SET patient_id = patient_id, patient_since = date_trunc('milliseconds', now()) + INTERVAL '1 hour' WHERE device_id = 'scale_1'`,
    );
    const after = await service.post('/devices/scale_1/command', ORDER);
    const path = pathOf('scale_1', before.body);
    await until('the earlier order to be cancelled', async () => (await statusAt(path)) === 'cancelled');
    await sleep(2_500);
    expect(await statusAt(pathOf('scale_1', after.body))).toBe('queued');

    const authorization = `Bearer ${await service.token({ scope: 'commands:read', patient_id: 2 })}`;
    const shown = await service.get('/devices/scale_1/commands', { authorization });
    expect(shown.body.data.map(({ command_id: id }: { command_id: string }) => id)).toEqual([
      after.body.command_id,
    ]);
    expect((await service.get(path, { authorization })).status).toBe(404);
  });

  it('can be cancelled when the database says that nobody has them in hand', async () => {
    await service.register('scale_2', 'weight_scale', 1);
    const { body } = await service.post('/devices/scale_2/command', ORDER);
    const claim = (until: string): Promise<unknown> =>
      database.query(
        `UPDATE device_commands SET claimed_until = now() + INTERVAL '${until}' WHERE command_id = '${body.command_id}'`,
      );
    const cancel = async (): Promise<number> =>
      (await service.post(`${pathOf('scale_2', body)}/cancel`, {})).status;
    await claim('1 minute');
    expect(await cancel()).toBe(409);
    await claim('-1 second');
    expect(await cancel()).toBe(200);
  });
});
