import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { timingSafeEqual } from 'node:crypto';
import { Aedes, type AuthenticateError, type Client } from 'aedes';
import type { MqttConfig } from '../config/config.js';
import { DeviceTopic, filterMatches } from '../mqtt/topic-filter.js';
import { portError } from './ports.js';

/** Decides what devices may do; supplied by whoever keeps their accounts. */
export interface DeviceGuard {
  /** Are a device's credentials good, and for this client id? */
  authenticate(clientId: string, username: string, password: string): Promise<boolean>;
  /** May the device of this account publish there? Asked of its will too. */
  mayPublish(username: string, topic: string): boolean;
  /** May the device of this account subscribe to that? */
  maySubscribe(username: string, filter: string): boolean;
  /** Told of whoever gave a wrong password. @param source the address it came from. */
  refused(clientId: string, username: string, source: string | null): void;
}

/** What aedes 1.2.0 keeps of subscriptions, of which its types do not tell. */
interface Subscriptions {
  /** Clients that are there, by id, and their subscriptions, by filter. */
  readonly clients: Readonly<Record<string, { readonly subscriptions: Readonly<Record<string, unknown>> }>>;
  readonly persistence: {
    /** Subscriptions of QoS 1 and 2 of sessions that are kept, also while their clients are away. */
    subscriptionsByTopic(topic: string): Promise<readonly unknown[]>;
  };
}

/** MQTT 3.1.1, table 3.1: CONNACK return codes. */
const SERVER_UNAVAILABLE = 3;
const BAD_USERNAME_OR_PASSWORD = 4;
const NOT_AUTHORIZED = 5;

/**
 * An MQTT 3.1.1 broker inside the process, on 127.0.0.1, for one machine and for trying things out: it keeps
 * sessions in memory. The service's own account may do everything; a device that authenticates is confined to
 * its own topics; a client without a username may listen and may publish on device topics, since nobody else reaches
 * loopback. Client ids in use by the service or by a device with an account are not for it to take.
 */
export class EmbeddedBroker {
  private readonly sockets = new Set<Socket>();
  /** Clients that gave a device's username, from before its password is looked at. */
  private readonly devices = new Map<Client, string>();
  private readonly anonymous = new WeakSet<Client>();
  /** Cut off: nothing more of theirs is taken, be it under way, and be it their will. */
  private readonly revoked = new WeakSet<Client>();
  private readonly wills = new WeakMap<Client, string>();
  private guard: DeviceGuard | undefined;
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
    // A small packet, such as a command, would wait for the acknowledgement of the one before (Nagle), up to 40 ms.
    const server = createServer({ noDelay: true }, (socket) => aedes.handle(socket));
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
  useGuard(guard: DeviceGuard): void {
    this.guard = guard;
  }

  /** Cuts off whoever has, or is about to have, connected with a device's account as it was. */
  disconnect(username: string): void {
    for (const [client, name] of this.devices) {
      if (name !== username) continue;
      this.revoked.add(client);
      client.close();
    }
  }

  /** Those of the topics that somebody has a subscription to: a client that is there, or one whose session is kept. */
  async heardAmong(topics: readonly string[]): Promise<ReadonlySet<string>> {
    const { clients, persistence } = this.aedes as Aedes & Subscriptions;
    const exact = new Set<string>();
    const patterns = new Set<string>();
    for (const { subscriptions } of Object.values(clients)) {
      for (const filter of Object.keys(subscriptions)) (/[+#]/.test(filter) ? patterns : exact).add(filter);
    }
    const isHeard = async (topic: string): Promise<boolean> =>
      exact.has(topic) ||
      [...patterns].some((filter) => filterMatches(filter, topic)) ||
      (await persistence.subscriptionsByTopic(topic)).length > 0;
    const heard = await Promise.all(
      [...new Set(topics)].map(async (topic) => ((await isHeard(topic)) ? topic : [])),
    );
    return new Set(heard.flat());
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
    aedes.on('clientDisconnect', (client) => this.devices.delete(client));
    aedes.preConnect = (client, packet, done) => {
      if (packet.will) this.wills.set(client, packet.will.topic);
      done(null, true);
    };
    aedes.authenticate = (client, username, password, done) => {
      void this.authenticate(client, username, password?.toString('utf8')).then(
        () => done(null, true),
        (refusal: unknown) => {
          this.devices.delete(client);
          if ((refusal as { returnCode?: number }).returnCode === BAD_USERNAME_OR_PASSWORD) {
            // What aedes hands out as a connection is a socket, of which its type does not tell.
            const { remoteAddress } = client.conn as Partial<Socket>;
            this.guard?.refused(client.id, username ?? '', remoteAddress ?? null);
          }
          done(refusal as AuthenticateError, false);
        },
      );
    };
    aedes.authorizePublish = (client, packet, done) => {
      const allowed = client === null || this.mayPublish(client, packet.topic);
      done(allowed ? null : new Error('not authorised to publish there'));
    };
    aedes.authorizeForward = (client, packet) => {
      const username = this.devices.get(client);
      // Subscriptions of an earlier session under this client id come back without being asked for.
      if (username !== undefined && !this.maySubscribe(client, packet.topic)) return null;
      // aedes 1.2.0 lowers the QoS to the subscription's only where that has no wildcard.
      return client.id === this.config.clientId && packet.qos === 2 ? { ...packet, qos: 1 } : packet;
    };
    aedes.authorizeSubscribe = (client, subscription, done) => {
      done(null, this.maySubscribe(client, subscription.topic) ? subscription : null);
    };
  }

  private mayPublish(client: Client, topic: string): boolean {
    if (this.revoked.has(client)) return false;
    const username = this.devices.get(client);
    if (username !== undefined) return this.guard?.mayPublish(username, topic) ?? false;
    if (!this.anonymous.has(client)) return true;
    const { data, status, responses } = this.config.topics;
    return [data, status, responses].some((filter) => new DeviceTopic(filter).deviceIdOf(topic) !== null);
  }

  private maySubscribe(client: Client, filter: string): boolean {
    if (this.revoked.has(client)) return false;
    const username = this.devices.get(client);
    if (username !== undefined) return this.guard?.maySubscribe(username, filter) ?? false;
    return !this.anonymous.has(client) || !filter.startsWith('$');
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
    if (username === undefined || username === '') {
      this.anonymous.add(client);
      const taken = [...this.devices.keys()].some(({ id }) => id === client.id);
      if (taken || this.isService(client)) throw refusal(NOT_AUTHORIZED);
    } else if (username === this.config.username) {
      if (!equals(password ?? '', this.config.password ?? '')) throw refusal(BAD_USERNAME_OR_PASSWORD);
    } else {
      this.devices.set(client, username);
      if (!this.guard) throw refusal(SERVER_UNAVAILABLE);
      const known = await this.guard.authenticate(client.id, username, password ?? '').catch(() => {
        throw refusal(SERVER_UNAVAILABLE);
      });
      if (!known || this.revoked.has(client)) throw refusal(BAD_USERNAME_OR_PASSWORD);
    }
    const will = this.wills.get(client);
    if (will !== undefined && !this.mayPublish(client, will)) throw refusal(NOT_AUTHORIZED);
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
