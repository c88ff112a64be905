import { parseArgs } from 'node:util';
import { verifyAuditLog } from '#audit';
import { EmbeddedPostgres, loadConfig, type Config } from '#platform';
import { DATABASE_NAME } from '../database-name.js';

const USAGE = `npm run audit:verify -- [options]     finds the first entry of the audit log that is not what was written

  --anchor ID:HASH     a point an earlier check has told: the log must still contain it
`;

/** Where the database is; the embedded one is started for it where no service runs. */
async function withDatabase<T>(config: Config, work: (url: string) => Promise<T>): Promise<T> {
  const url = config.databaseUrl ?? EmbeddedPostgres.runningAt(config.dataDir, DATABASE_NAME);
  if (url !== null) return work(url);
  const postgres = await EmbeddedPostgres.start(config.dataDir, DATABASE_NAME);
  try {
    return await work(postgres.url);
  } finally {
    await postgres.stop();
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { anchor: { type: 'string' }, help: { type: 'boolean' } } });
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const noted = /^(\d{1,15}):([0-9a-f]{64})$/.exec(values.anchor ?? '');
  if (values.anchor !== undefined && !noted)
    throw new Error('--anchor: expected ID:HASH as told by a check.');
  const anchor = noted ? { id: Number(noted[1]), hash: noted[2] ?? '' } : undefined;
  const { problem, point } = await withDatabase(loadConfig(), (url) => verifyAuditLog(url, anchor));
  const whole = `${point.id} ${point.id === 1 ? 'entry is' : 'entries are'} as written`;
  if (problem === null) {
    process.stdout.write(`${whole}. To be kept elsewhere, for --anchor: ${point.id}:${point.hash}\n`);
  } else {
    process.stdout.write(`BROKEN: ${problem}. Up to there, ${whole}.\n`);
    process.exitCode = 1;
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message || String(error) : String(error)}\n`);
  process.exitCode = 1;
});
