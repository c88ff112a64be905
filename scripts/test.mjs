// npm test: the static checks, then every test, then one line that counts them all.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureBuilt, ensureInstalled, ROOT } from './ensure.mjs';

const CHECKS = [
  ['types', ['node_modules/typescript/bin/tsc', '--noEmit']],
  // Lint, module boundaries, unused code and formatting; and that each of them catches a planted violation.
  ['lint, boundaries, unused code, formatting', ['scripts/check-boundaries.mjs']],
];

ensureInstalled();
ensureBuilt();

const count = { passed: 0, failed: 0, skipped: 0 };
for (const [name, args] of CHECKS) {
  const begun = performance.now();
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' });
  const seconds = ((performance.now() - begun) / 1_000).toFixed(1);
  console.log(`${status === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)`);
  if (status === 0) count.passed += 1;
  else {
    count.failed += 1;
    console.log(stdout + stderr);
  }
}

const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-results-'));
const results = join(folder, 'results.json');
const jest = join(ROOT, 'node_modules', 'jest', 'bin', 'jest.js');
const { status } = spawnSync(
  process.execPath,
  [jest, '--json', `--outputFile=${results}`, ...process.argv.slice(2)],
  { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] },
);
try {
  const report = JSON.parse(readFileSync(results, 'utf8'));
  count.passed += report.numPassedTests;
  count.failed += report.numFailedTests + report.numRuntimeErrorTestSuites;
  count.skipped += report.numPendingTests + report.numTodoTests;
} catch {
  console.log('Jest left no results.');
  count.failed += 1;
}
rmSync(folder, { recursive: true, force: true });
// A run that failed without a failed test, such as one that could not end, must not pass for a good one.
if (status !== 0 && count.failed === 0) count.failed += 1;

const skipped = count.skipped > 0 ? `, ${count.skipped} skipped` : '';
console.log(`${count.passed} passed, ${count.failed} failed${skipped}`);
process.exit(count.failed === 0 ? 0 : 1);
