import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { freePort } from './free-port.js';
import { until } from './until.js';

const DEBIAN = '/usr/lib/postgresql';
/** How a PostgreSQL is told to end (manual, "Shutting Down the Server"). */
const SIGNALS = { fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

/** The PostgreSQL versions Debian has installed here, such as `15`. */
export function installedPostgresVersions(): readonly string[] {
  if (!existsSync(DEBIAN)) return [];
  return readdirSync(DEBIAN).filter((version) => existsSync(join(DEBIAN, version, 'bin', 'postgres')));
}

/** An installed PostgreSQL, apart from the machine's own service, in a folder of its own. */
export class PostgresServer {
  private child: ChildProcess | undefined;

  private constructor(
    private readonly bin: string,
    private readonly port: number,
    private readonly folder: string,
    private readonly settings: readonly string[],
  ) {}

  /** @param settings such as `ssl=on`. */
  static async start(version: string, settings: readonly string[] = []): Promise<PostgresServer> {
    const bin = join(DEBIAN, version, 'bin');
    const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-postgres-'));
    const account = unprivileged();
    if (account) chownSync(folder, account.uid, account.gid);
    chmodSync(folder, 0o700);
    const made = spawnSync(
      join(bin, 'initdb'),
      ['-D', folder, '-U', 'postgres', '--auth=trust', '-N', '-E', 'UTF8'],
      { cwd: '/', encoding: 'utf8', ...account },
    );
    if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}`);
    const server = new PostgresServer(bin, await freePort(), folder, settings);
    await server.start();
    return server;
  }

  get url(): string {
    return `postgresql://postgres@127.0.0.1:${this.port}/postgres`;
  }

  /** Where it logs, with `logging_collector=on` and `log_filename=postgresql.log`. */
  get log(): string {
    return join(this.folder, 'log', 'postgresql.log');
  }

  /** Starts it, again on the same port and with the same data; resolves when it accepts connections. */
  async start(): Promise<void> {
    this.child = spawn(
      join(this.bin, 'postgres'),
      [
        '-D',
        this.folder,
        '-p',
        String(this.port),
        '-c',
        'unix_socket_directories=',
        ...this.settings.flatMap((setting) => ['-c', setting]),
      ],
      { cwd: '/', stdio: 'ignore', ...unprivileged() },
    );
    await until('PostgreSQL to accept connections', async () => {
      const client = new Client({ connectionString: this.url });
      await client.connect();
      await client.end();
      return true;
    });
  }

  /** `immediate` leaves everything as a crash would. */
  async stop(mode: keyof typeof SIGNALS = 'fast'): Promise<void> {
    const { child } = this;
    if (!child || child.exitCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(SIGNALS[mode]);
    await exited;
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** PostgreSQL refuses to run as root; null: this process does not either. */
export function unprivileged(): { uid: number; gid: number } | null {
  if (process.getuid?.() !== 0) return null;
  const [, , uid, gid] =
    readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .find((line) => line.startsWith('nobody:'))
      ?.split(':') ?? [];
  return { uid: Number(uid), gid: Number(gid) };
}
