import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt';
import { SignJWT } from 'jose';
import { freePort } from './free-port.js';
import { LiveClient } from './live-client.js';
import { until } from './until.js';

/** Tests and benchmarks are started from the root of the tree. */
const ROOT = process.cwd();
const ENTRY = join(ROOT, 'dist', 'apps', 'mqtt-service', 'src', 'main.js');
/** What tokens are signed with. */
export const JWT_SECRET = 'a-secret-of-the-tests-with-more-than-32-bytes';

/** An HTTP answer. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The parsed body, for JSON. */
  readonly body: any; // eslint-disable-line @typescript-eslint/no-explicit-any -- tests read whatever came back
}

/** The real service as its own process, in a folder of its own. */
export class Service {
  private child: ChildProcess | undefined;
  private output = '';

  private constructor(
    readonly folder: string,
    readonly port: number,
    readonly brokerPort: number,
    private readonly env: Readonly<Record<string, string>>,
  ) {}

  /** Prepares a service; without DATABASE_URL and MQTT_BROKER_HOST it uses its embedded servers. */
  static async prepare(env: Readonly<Record<string, string>> = {}): Promise<Service> {
    const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-run-'));
    const port = await freePort();
    const brokerPort =
      env['MQTT_BROKER_PORT'] === undefined ? await freePort() : Number(env['MQTT_BROKER_PORT']);
    return new Service(folder, port, brokerPort, {
      JWT_SECRET,
      DATA_DIR: join(folder, 'data'),
      PORT: String(port),
      MQTT_BROKER_PORT: String(brokerPort),
      HOST: '127.0.0.1',
      // Tests ask more often than any client.
      RATE_LIMIT_PER_IP: '0',
      RATE_LIMIT_PER_TOKEN: '0',
      ...env,
    });
  }

  /** Prepares a service and waits until it is ready. */
  static async start(env: Readonly<Record<string, string>> = {}): Promise<Service> {
    const service = await Service.prepare(env);
    await service.launch();
    await service.untilReady();
    return service;
  }

  /** Starts the process and waits until HTTP answers; over HTTPS, tell how to ask. */
  async launch(ask: () => Promise<{ status: number }> = () => this.get('/health/live')): Promise<void> {
    const child = this.spawn();
    await until('the service to listen', async () => {
      if (child.exitCode !== null) throw new Error(`it ended: ${this.output}`);
      return (await ask()).status === 200;
    });
  }

  /** Starts the process, which should refuse. @returns its exit code and what it wrote. */
  async launchInVain(): Promise<{ code: number | null; output: string }> {
    const child = this.spawn();
    await once(child, 'exit');
    return { code: child.exitCode, output: this.output };
  }

  async untilReady(): Promise<void> {
    await until('the service to be ready', async () => (await this.get('/health/ready')).status === 200);
  }

  /** Whether it has run and does no more. */
  get hasEnded(): boolean {
    return this.child !== undefined && (this.child.exitCode ?? this.child.signalCode) !== null;
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  /** Everything it has written. */
  get log(): string {
    return this.output;
  }

  /** Ends it with a signal and waits for the end. @returns its exit code, null after SIGKILL. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
    return child.exitCode;
  }

  async remove(): Promise<void> {
    await this.end();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A token the service accepts. */
  async token(claims: Record<string, unknown> = { role: 'admin' }, expiresAt = '1h'): Promise<string> {
    return new SignJWT({ sub: 'tester', ...claims })
      .setProtectedHeader({ alg: 'HS256' })
      .setExpirationTime(expiresAt)
      .sign(Buffer.from(JWT_SECRET));
  }

  async get(path: string, headers: Record<string, string> = {}): Promise<Answer> {
    return this.send('GET', path, undefined, headers);
  }

  /** GET with an admin token. */
  async read(path: string, headers: Record<string, string> = {}): Promise<Answer> {
    return this.get(path, { authorization: `Bearer ${await this.token()}`, ...headers });
  }

  /** POST with an admin token; an object is sent as JSON, a text as it is. */
  async post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const admin = { authorization: `Bearer ${await this.token()}`, 'content-type': 'application/json' };
    return this.send('POST', path, text, { ...admin, ...headers });
  }

  /** PATCH with an admin token. */
  async patch(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    const admin = { authorization: `Bearer ${await this.token()}`, 'content-type': 'application/json' };
    return this.send('PATCH', path, JSON.stringify(body), { ...admin, ...headers });
  }

  /** DELETE with an admin token. */
  async delete(path: string, headers: Record<string, string> = {}): Promise<Answer> {
    return this.send('DELETE', path, undefined, {
      authorization: `Bearer ${await this.token()}`,
      ...headers,
    });
  }

  /** Registers a device. */
  async register(deviceId: string, type = 'blood_pressure_monitor', patientId = 1): Promise<Answer> {
    return this.post('/devices/register', { device_id: deviceId, type, patient_id: patientId });
  }

  /** A client of the broker the service uses, with the service's account unless told otherwise. */
  async mqtt(options: IClientOptions = {}): Promise<MqttClient> {
    return connectAsync(
      `mqtt://127.0.0.1:${this.brokerPort}`,
      {
        username: this.env['MQTT_USERNAME'] ?? 'mqtt_user',
        password: this.env['MQTT_PASSWORD'] ?? 'mqtt_password',
        reconnectPeriod: 0,
        ...options,
      },
      false,
    );
  }

  /** A WebSocket client that is connected. */
  async live(query = '', headers: Record<string, string> = {}): Promise<LiveClient> {
    return LiveClient.open(`ws://127.0.0.1:${this.port}/ws/mqtt${query}`, headers);
  }

  private spawn(): ChildProcess {
    // SERVICE_NODE_OPTIONS, such as --cpu-prof, for whoever looks into the service under a test or a benchmark.
    const { NODE_V8_COVERAGE, PATH, HOME, SERVICE_NODE_OPTIONS = '--enable-source-maps' } = process.env;
    const child = spawn(process.execPath, [...SERVICE_NODE_OPTIONS.split(' ').filter(Boolean), ENTRY], {
      cwd: this.folder,
      env: { PATH, HOME, ...(NODE_V8_COVERAGE !== undefined && { NODE_V8_COVERAGE }), ...this.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
      });
    }
    this.child = child;
    return child;
  }

  private async send(
    method: string,
    path: string,
    body: string | undefined,
    headers: Record<string, string>,
  ): Promise<Answer> {
    const response = await fetch(`http://127.0.0.1:${this.port}${path}`, {
      method,
      headers,
      ...(body !== undefined && { body }),
    });
    const text = await response.text();
    const isJson = (response.headers.get('content-type') ?? '').includes('json');
    return {
      status: response.status,
      headers: response.headers,
      text,
      body:
        isJson && !(response.headers.get('content-type') ?? '').includes('ndjson')
          ? JSON.parse(text)
          : undefined,
    };
  }
}
