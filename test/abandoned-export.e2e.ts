import { once } from 'node:events';
import { Database } from '../libs/platform/src/database/database.js';
import { createDatabase, type TestDatabase } from './support/database.js';

describe('a statement whose rows nobody reads to the end', () => {
  let own: TestDatabase;
  let database: Database;

  beforeAll(async () => {
    own = await createDatabase();
    database = new Database(own.url, [], 30_000);
    await database.start();
  });
  afterAll(async () => {
    await database.stop();
    await own.drop();
  });

  // One that was put back with an answer still to come would give it to whoever asks next.
  it.each([
    ['before the first row', 'SELECT 1 AS number', 0],
    ['in the middle', 'SELECT generate_series(1, 100000) AS number', 1],
  ])('leaves its connection to nobody else, ended %s', async (_when, sql, read) => {
    for (let round = 0; round < 5; round += 1) {
      const rows = await database.stream(sql, []);
      // Asks for rows.
      rows.read();
      if (read > 0) await once(rows, 'readable');
      rows.destroy();
      await once(rows, 'close');
      const answers = [];
      for (let number = 0; number < 10; number += 1)
        answers.push(await database.query<{ number: number }>('SELECT $1::int AS number', [number]));
      expect(answers).toEqual(Array.from({ length: 10 }, (_, number) => [{ number }]));
    }
  });

  it('gives its connection back when they are read to the end', async () => {
    const pids = async (): Promise<unknown[]> =>
      own.query(`SELECT pid FROM pg_stat_activity WHERE application_name = 'mqtt-service'
                   AND datname = current_database() ORDER BY pid`);
    await database.query('SELECT 1');
    const before = await pids();
    const rows = await database.stream('SELECT generate_series(1, 1000) AS number', []);
    expect(await rows.toArray()).toHaveLength(1_000);
    await database.query('SELECT 1');
    expect(await pids()).toEqual(before);
  });
});
