// npm run test:cov: what the tests reach. The unit tests run inside Jest; the end-to-end tests drive the compiled
// service in processes of its own, whose coverage is mapped back to the sources.
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { ensureBuilt, ensureInstalled, ROOT } from './ensure.mjs';

ensureInstalled();
ensureBuilt();

const raw = join(ROOT, 'coverage', 'raw');
rmSync(join(ROOT, 'coverage'), { recursive: true, force: true });

const unit = jest('unit', ['--coverage', '--coverageProvider=v8', '--coverageReporters=text'], {});
const endToEnd = jest('e2e', [], { NODE_V8_COVERAGE: raw });
const report = run(join('c8', 'bin', 'c8.js'), [
  'report',
  `--temp-directory=${raw}`,
  '--reporter=text',
  '--exclude-after-remap',
  '--include=apps/**',
  '--include=libs/**',
  '--exclude=**/*.spec.ts',
  '--exclude=**/*.fixture.ts',
]);
process.exit(unit || endToEnd || report);

function jest(project, args, env) {
  console.log(`\nCoverage of the ${project} tests`);
  return run(join('jest', 'bin', 'jest.js'), ['--selectProjects', project, ...args], env);
}

function run(script, args, env = {}) {
  const { status } = spawnSync(process.execPath, [join(ROOT, 'node_modules', script), ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: 'inherit',
  });
  return status ?? 1;
}
