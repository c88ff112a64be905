import { createDatabase, type TestDatabase } from './support/database.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

/** More than two lots. */
const MANY = 11_000;

describe('STATUS_HISTORY_RETENTION', () => {
  let database: TestDatabase;
  let replicas: readonly Service[];

  beforeAll(async () => {
    database = await createDatabase();
    const service = await Service.start({ DATABASE_URL: database.url });
    for (const id of ['busy', 'silent', 'mixed', 'untold']) await service.register(id, 'weight_scale');
    await service.end();
    await service.remove();
  });
  afterAll(async () => {
    await Promise.all(replicas.map((replica) => replica.remove()));
    await database.drop();
  });

  /** @param ages in days, oldest first. */
  const keep = (device: string, ages: readonly number[], tellAfter: string | null = null): Promise<unknown> =>
    database.query(
      `INSERT INTO device_status_changes (device_id, tenant, patient_id, status, cause, at, tell_after)
       SELECT $1, 'default', 1, CASE WHEN place % 2 = 1 THEN 'online' ELSE 'offline' END, 'status',
         now() - age * interval '1 day', $3
       FROM unnest($2::float[]) WITH ORDINALITY AS past (age, place) ORDER BY place`,
      [device, ages, tellAfter],
    );
  const ages = async (device: string): Promise<number[]> => {
    const rows = await database.query<{ age: number }>(
      `SELECT round(extract(epoch FROM now() - at) / 86400)::int AS age FROM device_status_changes
       WHERE device_id = $1 ORDER BY id`,
      [device],
    );
    return rows.map(({ age }) => age);
  };
  const deleted = (): number =>
    replicas
      .flatMap(({ log }) => [...log.matchAll(/(\d+) changes of presence deleted/g)])
      .reduce((sum, [, count]) => sum + Number(count), 0);

  it('deletes what is older, in lots, but never the last of a device nor what is not told of yet', async () => {
    await keep(
      'busy',
      Array.from({ length: MANY }, () => 40),
    );
    await keep('silent', [400, 300]);
    await keep('untold', [400, 300], 'infinity');
    await keep('mixed', [50, 40, 31, 29, 1]);
    await keep('busy', [2]);
    const env = { DATABASE_URL: database.url, STATUS_HISTORY_RETENTION: '30d' };
    replicas = await Promise.all([1, 2].map(() => Service.start(env)));
    await until('all that is old to be deleted', () => deleted() === MANY + 1 + 3);
    expect(await ages('busy')).toEqual([2]);
    expect(await ages('silent')).toEqual([300]);
    expect(await ages('mixed')).toEqual([29, 1]);
    expect(await ages('untold')).toEqual([400, 300]);
  });
});
