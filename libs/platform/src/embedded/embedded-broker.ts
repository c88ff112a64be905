import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { timingSafeEqual } from 'node:crypto';
import { Aedes, type AuthenticateError, type Client } from 'aedes';
import type { MqttConfig } from '../config/config.js';
import { DeviceTopic } from '../mqtt/topic-filter.js';
import { portError } from './ports.js';

/** Decides whether a device's credentials are good; supplied by whoever keeps them. */
export type DeviceAuthenticator = (clientId: string, username: string, password: string) => Promise<boolean>;

/** MQTT 3.1.1, table 3.1: CONNACK return codes. */
const SERVER_UNAVAILABLE = 3;
const BAD_USERNAME_OR_PASSWORD = 4;

/**
 * An MQTT 3.1.1 broker inside the process, on 127.0.0.1, for one machine and for trying things out: it keeps
 * sessions in memory. The service's own account may do everything; a device that authenticates is confined to
 * its own topics; a client without a username may use the device topics, since nobody else reaches loopback.
 */
export class EmbeddedBroker {
  private readonly sockets = new Set<Socket>();
  private readonly devices = new WeakMap<Client, string>();
  private authenticator: DeviceAuthenticator | undefined;
  private isOpen = false;

  private constructor(
    private readonly config: MqttConfig,
    private readonly aedes: Aedes,
    private readonly server: Server,
  ) {}

  /** @throws Error that names MQTT_BROKER_PORT when the port can't be listened on. */
  static async start(config: MqttConfig): Promise<EmbeddedBroker> {
    const aedes = new Aedes({ queueLimit: 10_000, maxClientsIdLength: 255 });
    await aedes.listen();
    const server = createServer((socket) => aedes.handle(socket));
    const broker = new EmbeddedBroker(config, aedes, server);
    broker.install();
    try {
      server.listen(config.port, '127.0.0.1');
      await once(server, 'listening');
    } catch (error) {
      aedes.close();
      throw portError('MQTT_BROKER_PORT', config.port, error);
    }
    return broker;
  }

  /**
   * Lets everyone in. Until then only the service itself may connect: what a device published before the service
   * has subscribed would be acknowledged and reach nobody.
   */
  open(): void {
    this.isOpen = true;
  }

  /** Until this is called, devices that give a username are told that the server is unavailable. */
  useAuthenticator(authenticator: DeviceAuthenticator): void {
    this.authenticator = authenticator;
  }

  /** Disconnects everyone and frees the port. */
  async stop(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    this.aedes.close();
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  private install(): void {
    const { aedes } = this;
    this.server.on('connection', (socket) => {
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
    });
    // Malformed packets and dropped connections are the client's trouble; unheard, they would be ours.
    aedes.on('clientError', () => undefined);
    aedes.on('connectionError', () => undefined);
    aedes.authenticate = (client, username, password, done) => {
      void this.authenticate(client, username, password?.toString('utf8')).then(
        () => done(null, true),
        (refusal: unknown) => done(refusal as AuthenticateError, false),
      );
    };
    aedes.authorizePublish = (client, packet, done) => {
      const device = client && this.devices.get(client);
      const { data, status, responses } = this.config.topics;
      const allowed =
        device === undefined ||
        device === null ||
        [data, status, responses].some((filter) => new DeviceTopic(filter).of(device) === packet.topic);
      done(allowed ? null : new Error('not authorised to publish there'));
    };
    // aedes 1.2.0 lowers the QoS to the subscription's only where that has no wildcard.
    aedes.authorizeForward = (client, packet) =>
      client.id === this.config.clientId && packet.qos === 2 ? { ...packet, qos: 1 } : packet;
    aedes.authorizeSubscribe = (client, subscription, done) => {
      const device = this.devices.get(client);
      const allowed =
        device === undefined ||
        new DeviceTopic(this.config.topics.commands).of(device) === subscription.topic;
      done(null, allowed ? subscription : null);
    };
  }

  /** The consumer, or the publisher, whose client id is derived from it. */
  private isService(client: Client): boolean {
    const { clientId } = this.config;
    return client.id === clientId || client.id.startsWith(`${clientId}-out-`);
  }

  /** Resolves when the client may connect. @throws AuthenticateError otherwise. */
  private async authenticate(
    client: Client,
    username: string | undefined,
    password: string | undefined,
  ): Promise<void> {
    if (!this.isOpen && !this.isService(client)) throw refusal(SERVER_UNAVAILABLE);
    if (username === undefined || username === '') return;
    if (username === this.config.username) {
      if (equals(password ?? '', this.config.password ?? '')) return;
      throw refusal(BAD_USERNAME_OR_PASSWORD);
    }
    if (!this.authenticator) throw refusal(SERVER_UNAVAILABLE);
    const known = await this.authenticator(client.id, username, password ?? '').catch(() => {
      throw refusal(SERVER_UNAVAILABLE);
    });
    if (!known) throw refusal(BAD_USERNAME_OR_PASSWORD);
    this.devices.set(client, username);
  }
}

function refusal(returnCode: number): AuthenticateError {
  return Object.assign(new Error('refused'), { returnCode });
}

function equals(given: string, expected: string): boolean {
  const a = Buffer.from(given);
  const b = Buffer.from(expected);
  return a.length === b.length && timingSafeEqual(a, b);
}
