// npm run bench -- presence: what looking for silent devices costs the database when there are 1,000,000 of them online.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client } from 'pg';
import { Database } from '#platform';
import { EXPIRE_SILENT } from '../../libs/devices/src/adapters/pg-presence.repository.js';
import { BenchPostgres } from './postgres.js';

const LOT = 5_000;
/** How many of them are silent. */
const SILENT = [0, 1_000, 10_000];
const ROUNDS = 3;

interface Plan {
  readonly 'QUERY PLAN': string;
}

const { values } = parseArgs({ options: { devices: { type: 'string', default: '1000000' } } });
const devices = Number(values.devices);
const postgres = await BenchPostgres.start(false);
try {
  const database = new Database(postgres.url, [], 600_000);
  await database.start();
  await database.stop();
  const client = new Client({ connectionString: postgres.url });
  await client.connect();
  await fill(client);
  const results: Record<string, number[]> = {};
  for (const silent of SILENT) {
    results[silent] = [];
    for (let round = 0; round < ROUNDS; round += 1) results[silent].push(await sweep(client, silent));
    process.stdout.write(
      `${String(silent).padStart(7)} silent of ${devices}: ${results[silent].map((ms) => ms.toFixed(1)).join(', ')} ms\n`,
    );
  }
  process.stdout.write(`${await explain(client)}\n`);
  mkdirSync(join('.data', 'reports'), { recursive: true });
  writeFileSync(
    join('.data', 'reports', 'bench-presence.json'),
    `${JSON.stringify({ devices, milliseconds: results }, null, 2)}\n`,
  );
  await client.end();
} finally {
  await postgres.remove();
}

/** All online, seen within the last two minutes, and refreshed since: the index holds what that leaves behind. */
async function fill(client: Client): Promise<void> {
  await client.query(
    `INSERT INTO medical_devices (device_id, patient_id, type, status, last_seen, connected_since)
     SELECT 'device_' || n, 1 + n % 1000, 'weight_scale', 'online', now() - n % 120000 * interval '1 ms', now()
     FROM generate_series(1, $1::int) AS n`,
    [devices],
  );
  await client.query(`UPDATE medical_devices SET last_seen = last_seen + interval '1 second'`);
  await client.query('ANALYZE medical_devices');
}

async function makeSilent(client: Client, silent: number): Promise<void> {
  await client.query(
    `UPDATE medical_devices SET status = 'online', connected_since = now(), last_seen = now() WHERE status = 'offline'`,
  );
  await client.query(
    `UPDATE medical_devices SET last_seen = now() - interval '1 hour'
     WHERE id IN (SELECT id FROM medical_devices ORDER BY md5(device_id) LIMIT $1)`,
    [silent],
  );
}

/** Turns so many offline that are silent, as the service does. @returns milliseconds of the database. */
async function sweep(client: Client, silent: number): Promise<number> {
  await makeSilent(client, silent);
  let spent = 0;
  for (;;) {
    const begun = performance.now();
    const { rows } = await client.query<{ id: string | null }>(EXPIRE_SILENT, parameters());
    spent += performance.now() - begun;
    if (rows.filter(({ id }) => id !== null).length < LOT) return spent;
  }
}

async function explain(client: Client): Promise<string> {
  await makeSilent(client, 1_000);
  await client.query('BEGIN');
  const { rows } = await client.query<Plan>(
    `EXPLAIN (ANALYZE, COSTS OFF, BUFFERS OFF) ${EXPIRE_SILENT}`,
    parameters(),
  );
  await client.query('ROLLBACK');
  return rows.map((row) => row['QUERY PLAN']).join('\n');
}

function parameters(): unknown[] {
  const now = Date.now();
  return [new Date(now - 300_000).toISOString(), new Date(now).toISOString(), LOT];
}
