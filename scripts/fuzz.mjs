// npm run test:fuzz: 50,000 requests drawn from the OpenAPI document, and a table of what was answered.
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ensureBuilt, ensureInstalled, ROOT } from './ensure.mjs';

ensureInstalled();
ensureBuilt();

const report = join(ROOT, '.data', 'reports', 'fuzz.json');
rmSync(report, { force: true });
const { status } = spawnSync(
  process.execPath,
  [
    join(ROOT, 'node_modules', 'jest', 'bin', 'jest.js'),
    join('test', 'fuzz.e2e.ts'),
    '--selectProjects',
    'e2e',
    ...process.argv.slice(2),
  ],
  {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { FUZZ_REQUESTS: '50000', ...process.env, FUZZ_REPORT: report },
  },
);

try {
  const { seed, requests, seconds, statuses, findings } = JSON.parse(readFileSync(report, 'utf8'));
  console.log(`\n${requests} requests in ${seconds} s, FUZZ_SEED=${seed}\n`);
  for (const [code, count] of Object.entries(statuses)) console.log(`${code}  ${String(count).padStart(6)}`);
  for (const { what, count } of findings) console.log(`\n${count} x ${what}`);
} catch {
  console.log('No report: nothing was tested.');
  process.exit(1);
}
console.log(`\nWritten to ${report}`);
process.exit(status ?? 1);
