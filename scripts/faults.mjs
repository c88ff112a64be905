// npm run test:faults: every fault as often as it takes to believe it, and a table of what became of the messages.
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ensureBuilt, ensureInstalled, ROOT } from './ensure.mjs';

ensureInstalled();
ensureBuilt();

const report = join(ROOT, '.data', 'reports', 'faults.json');
rmSync(report, { force: true });
const { status } = spawnSync(
  process.execPath,
  [
    join(ROOT, 'node_modules', 'jest', 'bin', 'jest.js'),
    join('test', 'faults', 'faults.e2e.ts'),
    '--selectProjects',
    'e2e',
    ...process.argv.slice(2),
  ],
  {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { FAULTS: 'full', ...process.env, FAULTS_REPORT: report },
  },
);

const COLUMNS = ['name', 'rounds', 'acknowledged', 'lost', 'twice', 'mixed', 'untold', 'seconds'];
let rows;
try {
  const { set, seed, scenarios } = JSON.parse(readFileSync(report, 'utf8'));
  console.log(`\nFaults, ${set} set, seed ${seed} (FAULTS_SEED repeats it)\n`);
  rows = scenarios.map((scenario) => ({
    ...scenario,
    name: scenario.measured ? `${scenario.name}, measured only` : scenario.name,
  }));
} catch {
  console.log('No report: nothing was tested.');
  process.exit(1);
}
const table = [COLUMNS, ...rows.map((row) => COLUMNS.map((column) => String(row[column])))];
const widths = COLUMNS.map((_, at) => Math.max(...table.map((cells) => cells[at].length)));
for (const cells of table)
  console.log(
    cells.map((cell, at) => (at < 2 ? cell.padEnd(widths[at]) : cell.padStart(widths[at]))).join('  '),
  );
console.log(`\nWritten to ${report}`);
process.exit(status ?? 1);
