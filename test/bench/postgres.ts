import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { EmbeddedPostgres } from '#platform';
import { postmasterPid } from './processes.js';

/** PostgreSQL with its own defaults, synchronous_commit among them, that remembers when each row was committed. */
export class BenchPostgres {
  private constructor(
    private readonly server: EmbeddedPostgres,
    readonly pid: number,
    private readonly folder: string,
  ) {}

  /** @param statements keeps account of every statement, for {@link topStatements}. */
  static async start(statements: boolean): Promise<BenchPostgres> {
    const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-bench-pg-'));
    const first = await EmbeddedPostgres.start(folder, 'postgres');
    await ask(first.url, 'ALTER SYSTEM SET track_commit_timestamp = on');
    if (statements) await ask(first.url, `ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'`);
    await first.stop();
    const server = await EmbeddedPostgres.start(folder, 'postgres');
    if (statements) await ask(server.url, 'CREATE EXTENSION pg_stat_statements');
    return new BenchPostgres(server, postmasterPid(join(folder, 'postgres')), folder);
  }

  get url(): string {
    return this.server.url;
  }

  /** What has taken the most time since the last call: milliseconds, calls, statement. */
  async topStatements(): Promise<readonly string[]> {
    const rows = await ask<{ ms: number; calls: string; query: string }>(
      this.url,
      `SELECT round(total_exec_time) AS ms, calls, regexp_replace(query, '\\s+', ' ', 'g') AS query
       FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 8`,
    );
    await ask(this.url, 'SELECT pg_stat_statements_reset()');
    return rows.map(
      ({ ms, calls, query }) =>
        `${String(ms).padStart(8)} ms ${calls.padStart(8)} calls  ${query.slice(0, 120)}`,
    );
  }

  async remove(): Promise<void> {
    await this.server.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function ask<Row>(url: string, sql: string): Promise<Row[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows as Row[];
  } finally {
    await client.end();
  }
}
