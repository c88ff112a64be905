// npm run bench -- NAME [OPTIONS]: a measured load on the built service; prints a table and writes JSON under .data/reports.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ensureBuilt, ensureInstalled, ROOT } from './ensure.mjs';

const BENCHES = ['ingest', 'auth', 'commands', 'presence', 'stream'];
const [name = BENCHES[0], ...options] = process.argv.slice(2);
if (!BENCHES.includes(name)) {
  process.stderr.write(`npm run bench -- ${BENCHES.join('|')} [options]\n`);
  process.exit(2);
}
ensureInstalled();
ensureBuilt();
const compiled = node([join('node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.bench.json']);
const script = join('dist', 'test', 'bench', `${name}.js`);
process.exit(compiled === 0 && existsSync(join(ROOT, script)) ? node([script, ...options]) : compiled || 1);

function node(args) {
  return spawnSync(process.execPath, args, { cwd: ROOT, stdio: 'inherit' }).status ?? 1;
}
