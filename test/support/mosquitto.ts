import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './free-port.js';
import { until } from './until.js';

/** Where Debian has it; Mosquitto's own packages have it elsewhere. */
const DYNSEC = '/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so';
const USERNAME = 'mqtt_user';
const PASSWORD = 'mosquitto-test-password';

/** A real Mosquitto with username and password, sessions kept over restarts, in a folder of its own. */
export class Mosquitto {
  readonly username = USERNAME;
  readonly password = PASSWORD;
  /** Where devices connect, if not where the service does. */
  devicePort: number | undefined;
  private child: ChildProcess | undefined;

  private constructor(
    readonly port: number,
    private readonly folder: string,
  ) {}

  /** Whether it is installed; without it, suites that need it are skipped and say so. */
  static get installed(): boolean {
    try {
      execFileSync('mosquitto_passwd', ['-h'], { stdio: 'ignore' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    }
    return true;
  }

  /** Whether its dynamic security plugin is installed too. */
  static get hasDynsec(): boolean {
    return Mosquitto.installed && existsSync(DYNSEC);
  }

  /** As {@link prepare}, with device accounts in the dynamic security plugin, whose administrator is the service. */
  static async prepareDynsec(): Promise<Mosquitto> {
    const mosquitto = await Mosquitto.prepare();
    const file = join(mosquitto.folder, 'dynamic-security.json');
    execFileSync('mosquitto_ctrl', ['dynsec', 'init', file, USERNAME, PASSWORD], { stdio: 'ignore' });
    chmodSync(file, 0o666);
    mosquitto.configure((lines) => [
      ...lines.filter((line) => !line.startsWith('password_file')),
      `plugin ${DYNSEC}`,
      `plugin_opt_config_file ${file}`,
    ]);
    return mosquitto;
  }

  /** As {@link prepare}, with the access rules that are shipped, and an account for each device id given. */
  static async prepareShipped(accounts: Readonly<Record<string, string>>): Promise<Mosquitto> {
    const mosquitto = await Mosquitto.prepare();
    const passwords = join(mosquitto.folder, 'device-passwords');
    writeFileSync(passwords, '');
    for (const [username, password] of Object.entries(accounts))
      execFileSync('mosquitto_passwd', ['-b', passwords, username, password]);
    chmodSync(passwords, 0o644);
    const acl = join(mosquitto.folder, 'acl');
    // As docker-compose.yml puts it together.
    const own = `user ${USERNAME}\ntopic readwrite #\ntopic read $SYS/#\n`;
    writeFileSync(acl, own + readFileSync(join('docker', 'mosquitto', 'devices.acl'), 'utf8'), {
      mode: 0o644,
    });
    mosquitto.devicePort = await freePort();
    mosquitto.configure((lines) => [
      'per_listener_settings true',
      ...lines,
      `acl_file ${acl}`,
      `listener ${mosquitto.devicePort} 127.0.0.1`,
      'use_username_as_clientid true',
      'allow_anonymous false',
      `password_file ${passwords}`,
      `acl_file ${acl}`,
    ]);
    return mosquitto;
  }

  /** Rewrites its configuration, for the next start. */
  private configure(change: (lines: readonly string[]) => readonly string[]): void {
    const file = join(this.folder, 'mosquitto.conf');
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
    writeFileSync(file, `${change(lines).join('\n')}\n`, { mode: 0o644 });
  }

  /** Prepares one; {@link start} runs it. @param more lines of its configuration that override those here. */
  static async prepare(more: readonly string[] = []): Promise<Mosquitto> {
    const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-mosquitto-'));
    // Started as root, Mosquitto gives root up and must still reach its folder.
    chmodSync(folder, 0o777);
    const port = await freePort();
    const passwords = join(folder, 'passwords');
    execFileSync('mosquitto_passwd', ['-c', '-b', passwords, USERNAME, PASSWORD]);
    chmodSync(passwords, 0o644);
    const settings = [
      `listener ${port} 127.0.0.1`,
      'allow_anonymous false',
      `password_file ${passwords}`,
      'persistence true',
      `persistence_location ${folder}/`,
      'max_queued_messages 1000000',
      'max_inflight_messages 1000',
      // As it is shipped (docker/mosquitto/mosquitto.conf).
      'set_tcp_nodelay true',
      ...more,
    ];
    writeFileSync(join(folder, 'mosquitto.conf'), `${settings.join('\n')}\n`, { mode: 0o644 });
    return new Mosquitto(port, folder);
  }

  async start(): Promise<void> {
    this.child = spawn('mosquitto', ['-c', join(this.folder, 'mosquitto.conf')], { stdio: 'ignore' });
    await until('Mosquitto to listen', () => isListening(this.port));
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  /** Ends it, unless told otherwise as an operator would: it writes its sessions and queues to disk. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  /** Loses, while it is stopped, the sessions and queues it had written to disk. */
  forget(): void {
    rmSync(join(this.folder, 'mosquitto.db'), { force: true });
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** What the service needs to use it. */
  get env(): Record<string, string> {
    return {
      MQTT_BROKER_HOST: '127.0.0.1',
      MQTT_BROKER_PORT: String(this.port),
      MQTT_USERNAME: USERNAME,
      MQTT_PASSWORD: PASSWORD,
    };
  }
}

async function isListening(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } finally {
    socket.destroy();
  }
}
