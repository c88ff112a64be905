import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectNats } from '@nats-io/transport-node';
import { connect as connectRabbitMq } from 'amqplib';
import { Redis } from 'ioredis';
import { freePort } from './free-port.js';
import { until } from './until.js';

const EVENT_SYSTEMS = ['NATS', 'RabbitMQ', 'Redis'] as const;
/** The event systems that tests can start. */
export type TestedEventSystem = (typeof EVENT_SYSTEMS)[number];

const PASSWORD = 'event-system-test-password';
/** Debian has the script that starts it on the path for root and its own user only. */
const RABBITMQ = '/usr/lib/rabbitmq/bin/rabbitmq-server';

/** Something that came by an event system. */
interface Received {
  /** Subject, routing key or channel. */
  readonly pattern: string;
  readonly contentType?: string | undefined;
  readonly text: string;
}

/** Whoever listens to everything. */
export interface Listener {
  readonly received: readonly Received[];
  close(): Promise<void>;
}

/** A real event system in a folder of its own; what it keeps, it keeps over restarts. */
export abstract class EventServer {
  private child: ChildProcess | undefined;

  protected constructor(
    readonly port: number,
    protected readonly folder: string,
  ) {}

  /** The event systems that are installed here; says which are not, and are not tested. */
  static installed(): readonly TestedEventSystem[] {
    const commands = { NATS: 'nats-server', RabbitMQ: RABBITMQ, Redis: 'redis-server' };
    const here = EVENT_SYSTEMS.filter((system) => {
      const command = commands[system];
      return command.startsWith('/') ? existsSync(command) : !spawnSync(command, ['--version']).error;
    });
    const missing = EVENT_SYSTEMS.filter((system) => !here.includes(system));
    if (missing.length > 0)
      process.stderr.write(
        `Not tested: ${missing.join(', ')} (Debian: ${missing.map((system) => `${system.toLowerCase()}-server`).join(', ')})\n`,
      );
    return here;
  }

  /** Prepares one; {@link start} runs it. */
  static async prepare(system: TestedEventSystem): Promise<EventServer> {
    const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-events-'));
    const port = await freePort();
    switch (system) {
      case 'NATS':
        return new NatsServer(port, folder);
      case 'RabbitMQ':
        return new RabbitMqServer(port, folder, await freePort(), await freePort());
      case 'Redis':
        return new RedisServer(port, folder);
    }
  }

  async start(): Promise<void> {
    this.child = await this.launch();
    await until('the event system to listen', () => this.isReady());
  }

  async stop(): Promise<void> {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    this.end(child);
    await exited;
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** What to set EVENTS_URL to. */
  abstract get url(): string;
  /** Listens to whatever is published from now on. */
  abstract listen(): Promise<Listener>;
  protected abstract launch(): ChildProcess | Promise<ChildProcess>;

  protected end(child: ChildProcess): void {
    child.kill('SIGTERM');
  }

  protected async isReady(): Promise<boolean> {
    const socket = connectSocket(this.port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      return true;
    } finally {
      socket.destroy();
    }
  }
}

class NatsServer extends EventServer {
  get url(): string {
    return `nats://service:${PASSWORD}@127.0.0.1:${this.port}`;
  }

  async listen(): Promise<Listener> {
    const connection = await connectNats({ port: this.port, user: 'service', pass: PASSWORD });
    const received: Received[] = [];
    connection.subscribe('>', {
      callback: (_error, message) => {
        received.push({ pattern: message.subject, text: message.string() });
      },
    });
    await connection.flush();
    return { received, close: () => connection.close() };
  }

  protected launch(): ChildProcess {
    const config = join(this.folder, 'nats.conf');
    const lines = [
      `listen: 127.0.0.1:${this.port}`,
      `authorization { users: [{`,
      `  user: service, password: ${PASSWORD}, permissions: { publish: { deny: ["denied.>"] } }`,
      `}] }`,
    ];
    writeFileSync(config, `${lines.join('\n')}\n`);
    return spawn('nats-server', ['-c', config], { stdio: 'ignore' });
  }
}

class RedisServer extends EventServer {
  get url(): string {
    return `redis://:${PASSWORD}@127.0.0.1:${this.port}`;
  }

  async listen(): Promise<Listener> {
    const client = new Redis({ port: this.port, password: PASSWORD });
    client.on('error', () => undefined);
    const received: Received[] = [];
    client.on('pmessage', (_pattern, channel: string, text: string) => {
      received.push({ pattern: channel, text });
    });
    await client.psubscribe('*');
    return {
      received,
      close: () => {
        client.disconnect();
        return Promise.resolve();
      },
    };
  }

  protected launch(): ChildProcess {
    const settings = ['--bind', '127.0.0.1', '--port', String(this.port), '--dir', this.folder, '--save', ''];
    return spawn('redis-server', [...settings, '--requirepass', PASSWORD], { stdio: 'ignore' });
  }
}

const QUEUE = 'everything';

class RabbitMqServer extends EventServer {
  private names: ChildProcess | undefined;

  constructor(
    port: number,
    folder: string,
    private readonly clusterPort: number,
    private readonly namesPort: number,
  ) {
    super(port, folder);
  }

  /** Its own account, which it lets in from this machine. */
  get url(): string {
    return `amqp://guest:guest@127.0.0.1:${this.port}`;
  }

  async listen(): Promise<Listener> {
    const connection = await connectRabbitMq(this.url);
    connection.on('error', () => undefined);
    const channel = await connection.createChannel();
    await channel.assertExchange('events', 'topic', { durable: true });
    await channel.assertQueue(QUEUE, { durable: true });
    await channel.bindQueue(QUEUE, 'events', '#');
    const received: Received[] = [];
    await channel.consume(QUEUE, (message) => {
      if (!message) return;
      const { content, fields, properties } = message;
      const contentType = properties.contentType as string | undefined;
      received.push({ pattern: fields.routingKey, contentType, text: content.toString() });
      channel.ack(message);
    });
    return { received, close: () => connection.close().catch(() => undefined) };
  }

  protected async launch(): Promise<ChildProcess> {
    const { folder } = this;
    const inFolder = (name: string): string => join(folder, name);
    const env = {
      ...process.env,
      HOME: folder,
      ERL_EPMD_PORT: String(this.namesPort),
      ERL_EPMD_ADDRESS: '127.0.0.1',
      RABBITMQ_NODENAME: `test-${this.port}@localhost`,
      RABBITMQ_NODE_IP_ADDRESS: '127.0.0.1',
      RABBITMQ_NODE_PORT: String(this.port),
      RABBITMQ_DIST_PORT: String(this.clusterPort),
      RABBITMQ_MNESIA_BASE: inFolder('mnesia'),
      RABBITMQ_LOG_BASE: inFolder('log'),
      RABBITMQ_ENABLED_PLUGINS_FILE: inFolder('plugins'),
      RABBITMQ_CONFIG_FILE: inFolder('rabbitmq'),
      RABBITMQ_ADVANCED_CONFIG_FILE: inFolder('advanced'),
      RABBITMQ_CONF_ENV_FILE: inFolder('env'),
      RABBITMQ_FEATURE_FLAGS_FILE: inFolder('features'),
      RABBITMQ_PID_FILE: this.pidFile,
    };
    writeFileSync(inFolder('plugins'), '[].\n');
    rmSync(this.pidFile, { force: true });
    // Started by Erlang itself, the server of names would go on for ever.
    this.names = spawn('epmd', [], { env, stdio: 'ignore' });
    await until('the server of names', async () => {
      const socket = connectSocket(this.namesPort, '127.0.0.1');
      await once(socket, 'connect').finally(() => socket.destroy());
      return true;
    });
    return spawn(RABBITMQ, [], { env, stdio: 'ignore' });
  }

  /** It listens before it has read its queues. */
  protected override async isReady(): Promise<boolean> {
    const connection = await connectRabbitMq(this.url);
    await connection.close();
    return true;
  }

  protected override end(child: ChildProcess): void {
    // The script that was started waits for Erlang, and does not pass signals on.
    process.kill(Number(readFileSync(this.pidFile, 'utf8')), 'SIGTERM');
    child.once('exit', () => this.names?.kill());
  }

  private get pidFile(): string {
    return join(this.folder, 'pid');
  }
}
