import type { Config } from '../config/config.js';
import type { Database } from '../database/database.js';
import { SharedGroup, type Hearing } from './shared-group.js';

const at = (second: number): Date => new Date(Date.UTC(2024, 0, 23, 10, 30, second));
const heard = (since: number, until: number): Hearing => ({ since: at(since), until: at(until) });

/** What a group has heard whose other members have noted this. */
async function together(
  own: Hearing | null,
  others: readonly { readonly client_id: string; readonly since: Date | null; readonly until: Date | null }[],
): Promise<unknown> {
  const database = {
    query: (sql: string) => Promise.resolve(sql.trimStart().startsWith('SELECT') ? others : []),
  } as unknown as Database;
  const config = { mqtt: { clientId: 'own', sharedGroup: 'replicas' } } as Config;
  return new SharedGroup(config, database).hear(own, 1_000);
}

describe('SharedGroup', () => {
  it('has heard what all of its members have', async () => {
    expect(await together(heard(2, 9), [])).toEqual({ hearing: heard(2, 9), last: null });
    const others = [
      { client_id: 'a', ...heard(4, 8) },
      { client_id: 'b', ...heard(1, 7) },
    ];
    expect(await together(heard(2, 9), others)).toEqual({ hearing: heard(4, 7), last: 'b' });
    expect(await together(heard(5, 6), others)).toEqual({ hearing: heard(5, 6), last: 'b' });
  });

  it('has heard nothing for certain while one has not', async () => {
    const silent = { client_id: 'c', since: null, until: null };
    const others = [{ client_id: 'a', ...heard(4, 8) }, silent];
    expect(await together(heard(2, 9), others)).toEqual({ hearing: null, last: 'c' });
    expect(await together(null, [{ client_id: 'a', ...heard(4, 8) }])).toEqual({ hearing: null, last: 'a' });
  });
});

it('asks nobody where there is no group', async () => {
  const database = {} as Database;
  const group = new SharedGroup({ mqtt: { clientId: 'own' } } as Config, database);
  expect(await group.hear(heard(2, 9), 1_000)).toEqual({ hearing: heard(2, 9), last: null });
  expect(await group.hear(null, 1_000)).toEqual({ hearing: null, last: null });
});
