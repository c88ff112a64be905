// Makes a clone runnable: installs what package-lock.json says and compiles what has changed.
// Plain Node without packages, since it runs before there are any. Everything it has to say goes to stderr.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const STAMP = join(ROOT, 'dist', '.built');
const SOURCES = ['apps', 'libs', 'package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json'];
// Files of packages that the running service serves.
const ASSETS = [['redoc', 'bundles', 'redoc.standalone.js']];

/** Installs the packages when they are missing or older than the lock file. */
export function ensureInstalled() {
  const installed = join(ROOT, 'node_modules', '.package-lock.json');
  if (
    existsSync(installed) &&
    statSync(installed).mtimeMs >= statSync(join(ROOT, 'package-lock.json')).mtimeMs
  )
    return;
  process.stderr.write('Installing packages (once) ...\n');
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], 'npm ci');
}

/** Compiles when a source is newer than the last build. */
export function ensureBuilt() {
  if (existsSync(STAMP) && newestChange(SOURCES.map((name) => join(ROOT, name))) <= statSync(STAMP).mtimeMs)
    return;
  process.stderr.write('Compiling ...\n');
  const begun = new Date();
  run(
    process.execPath,
    [join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.build.json'],
    'tsc',
  );
  mkdirSync(join(ROOT, 'dist', 'assets'), { recursive: true });
  for (const asset of ASSETS) {
    copyFileSync(join(ROOT, 'node_modules', ...asset), join(ROOT, 'dist', 'assets', asset.at(-1)));
  }
  writeFileSync(STAMP, `${begun.toISOString()}\n`);
}

function newestChange(paths) {
  return Math.max(
    ...paths.map((path) => {
      const { mtimeMs } = statSync(path);
      return statSync(path).isDirectory()
        ? Math.max(mtimeMs, newestChange(readdirSync(path).map((name) => join(path, name))))
        : mtimeMs;
    }),
    0,
  );
}

function run(command, args, name) {
  const shell = process.platform === 'win32' && command === 'npm';
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: ['ignore', 2, 2], shell });
  if (status !== 0) {
    process.stderr.write(`${name} failed${error ? `: ${error.message}` : ''}\n`);
    process.exit(status ?? 1);
  }
}
