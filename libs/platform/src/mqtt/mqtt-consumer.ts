import { Injectable, Logger } from '@nestjs/common';
import { MqttClient } from 'mqtt';
import { Config } from '../config/config.js';
import { errorCode } from '../database/database-errors.js';
import { HOLDER_PAUSE_MS, SessionLease } from '../database/session-lease.js';
import {
  clientOptions,
  ConnectionComplaint,
  KEEP_ALIVE_SECONDS,
  openSocket,
  sayGoodbye,
  SESSION_EXPIRY_SECONDS,
} from './client-options.js';
import type { Publish } from './publish-frames.js';
import { PublishTap } from './publish-tap.js';
import { SharedGroup } from './shared-group.js';
import { Standstill } from './standstill.js';

const RECONNECT_MS = 1_000;
const RESUBSCRIBE_MS = 5_000;
/** MQTT 5, section 3.8.3.1: retained messages only when the subscription is new. */
const RETAINED_IF_NEW = 1;

/** `active` holds the durable session; `standby` waits for the replica that does. */
type ConsumerRole = 'active' | 'standby';

/** What there is to know of the consumer's connection. */
export interface ConsumerStatus {
  readonly role: ConsumerRole;
  readonly connected: boolean;
  /** Topic filters the broker has granted at QoS 1 on this connection. */
  readonly subscriptions: readonly string[];
}

/** Whoever takes the messages. */
export interface ConsumerHandlers {
  /** A connection begins; its messages follow. */
  connected(tap: PublishTap): void;
  received(publish: Publish): void;
  /** The connection has ended; nothing more can be acknowledged on it. */
  disconnected(): void;
}

/**
 * The durable session that collects what devices publish, under MQTT_CLIENT_ID. One replica at a time holds it, by a
 * lease in the database; the others stand by. It reconnects for ever, also when the broker refuses it, with a new
 * client each time: the session's state is in the broker, and none is kept here.
 */
@Injectable()
export class MqttConsumer {
  private readonly logger = new Logger('Mqtt');
  private readonly subscribedListeners: (() => void)[] = [];
  private granted: readonly string[] = [];
  private handlers: ConsumerHandlers | undefined;
  private filters: readonly string[] = [];
  private plainFilters: readonly string[] = [];
  private client: MqttClient | undefined;
  private tap: PublishTap | undefined;
  private retry: NodeJS.Timeout | undefined;
  private heldBack: NodeJS.Timeout | undefined;
  private stopped = false;
  private joined = false;
  /** Where marks go out and come back. A client id may hold what a topic may not. */
  private readonly markTopic: string;
  /** Tells marks of this connection from those that an earlier one has left in the queue. */
  private connectionId = '';
  /** The broker lets marks come back, as far as is known. */
  private marksGranted = true;
  private readonly complaint: ConnectionComplaint;
  private readonly standstill = new Standstill(HOLDER_PAUSE_MS, () => this.doubt());

  constructor(
    private readonly config: Config,
    private readonly lease: SessionLease,
    private readonly group: SharedGroup,
  ) {
    this.markTopic = `mqtt-service/heard/${encodeURIComponent(config.mqtt.clientId)}`;
    this.complaint = new ConnectionComplaint(this.logger, config);
  }

  /**
   * Begins to wait for the lease, then to connect; both may take for ever.
   * @param filters what to subscribe to, without the shared group.
   */
  start(filters: readonly string[], handlers: ConsumerHandlers): void {
    const { sharedGroup } = this.config.mqtt;
    this.plainFilters = filters;
    this.filters =
      sharedGroup === undefined ? filters : filters.map((filter) => `$share/${sharedGroup}/${filter}`);
    this.handlers = handlers;
    this.standstill.start();
    this.lease.start((held) => {
      if (held) void this.joinAndConnect();
      else this.disconnect();
    });
  }

  get status(): ConsumerStatus {
    return {
      role: this.lease.isHeldElsewhere ? 'standby' : 'active',
      connected: this.client?.connected ?? false,
      subscriptions: this.granted,
    };
  }

  /** Other replicas can have the session, too. */
  get mayHaveSuccessor(): boolean {
    return this.lease.isShared;
  }

  /** The session is this replica's, as far as it knows. */
  get isHolder(): boolean {
    return this.lease.isHeld;
  }

  /** Calls back each time the connection stands and every subscription is granted. */
  onSubscribed(listener: () => void): void {
    this.subscribedListeners.push(listener);
  }

  /**
   * Sends a mark through the broker into the service's own session, where it lines up behind all that waits there. It tells
   * what silence can't: that nothing is on its way any more.
   */
  mark(at: Date): void {
    if (!this.client?.connected) return;
    // QoS 0 would overtake what waits. Lost, the next one does.
    this.client.publish(this.markTopic, `${this.connectionId}.${at.getTime()}`, { qos: 1 }, () => undefined);
  }

  /** Marks come back, unless the broker is known to refuse them. */
  get hasMarks(): boolean {
    return this.marksGranted;
  }

  /** Whether a message is a mark, of whatever connection. */
  isMark({ topic }: Publish): boolean {
    return topic === this.markTopic;
  }

  /** When a mark was made; null: on an earlier connection, since when others may have had the session. */
  markedAt({ payload }: Publish): Date | null {
    const [connectionId, at] = payload.toString().split('.');
    return connectionId === this.connectionId ? new Date(Number(at)) : null;
  }

  /** Leaves what is coming with the broker; TCP makes it wait. The connection is kept alive meanwhile. */
  hold(): void {
    if (this.heldBack) return;
    this.tap?.hold();
    // The broker hears of us; its answers wait behind the messages, so that missing them says nothing.
    this.heldBack = setInterval(
      () => {
        this.client?.sendPing();
        this.client?.reschedulePing(true);
      },
      (KEEP_ALIVE_SECONDS / 3) * 1_000,
    );
  }

  release(): void {
    if (!this.heldBack) return;
    clearInterval(this.heldBack);
    this.heldBack = undefined;
    this.client?.reschedulePing(true);
    this.tap?.release();
  }

  /** Disconnects and keeps the session in the broker, so that it goes on collecting; then lets go of the lease. */
  async close(): Promise<void> {
    this.stopped = true;
    this.standstill.stop();
    clearTimeout(this.retry);
    clearInterval(this.heldBack);
    await this.end();
    await this.lease.stop();
  }

  /** Others must know of a member before the broker deals it a share. */
  private async joinAndConnect(): Promise<void> {
    if (!this.joined) {
      try {
        await this.group.join();
        this.joined = true;
      } catch (error) {
        this.logger.warn(`Not noted as a replica (${errorCode(error) ?? String(error)}); trying again`);
      }
      // The lease may be lost by now.
      if (this.lease.isHeldElsewhere) return;
      if (!this.joined || !(await this.lease.confirm())) {
        this.connectLater();
        return;
      }
    }
    this.connect();
  }

  private connect(): void {
    if (this.client || this.stopped) return;
    const { mqtt } = this.config;
    const handlers = this.handlers;
    if (!handlers) throw new Error('the consumer is not started');
    const options = {
      ...clientOptions(this.config, mqtt.clientId),
      // The embedded broker keeps sessions in memory only, and for durable ones loses the connection over a topic
      // with an empty level (aedes 1.2.0).
      clean: mqtt.embedded,
      reconnectPeriod: 0,
      ...(mqtt.protocolVersion === 5 && {
        properties: { receiveMaximum: mqtt.inflight, sessionExpiryInterval: SESSION_EXPIRY_SECONDS },
      }),
    };
    this.connectionId = crypto.randomUUID();
    const client = new MqttClient(() => {
      const wire = openSocket(this.config);
      wire.on('data', () => this.standstill.check());
      const tap: PublishTap = new PublishTap(wire, mqtt.protocolVersion, (publish) => {
        // What a connection still brings that is given up could only be answered on the next one: under a packet id
        // that means another message there.
        if (this.tap === tap) handlers.received(publish);
      });
      this.tap = tap;
      if (this.heldBack) tap.hold();
      handlers.connected(tap);
      return tap;
    }, options);
    this.client = client;
    client.on('connect', () => {
      this.complaint.reset();
      this.logger.log(`Connected to ${mqtt.host}:${mqtt.port} as ${mqtt.clientId}`);
      this.subscribe(client);
    });
    client.on('error', (error) => this.complaint.report(error));
    client.on('close', () => {
      if (this.client !== client) return;
      handlers.disconnected();
      this.client = undefined;
      this.tap = undefined;
      this.granted = [];
      client.end(true);
      this.connectLater();
    });
  }

  /** Only while the lease is surely held: two replicas that both believe to hold it would push each other off for ever. */
  private connectLater(): void {
    if (this.stopped) return;
    clearTimeout(this.retry);
    this.retry = setTimeout(() => {
      void this.lease.confirm().then((held) => {
        if (held) void this.joinAndConnect();
        else this.connectLater();
      });
    }, RECONNECT_MS);
  }

  /**
   * What waits to be read was perhaps given to another replica long ago, and is stored: it must not be dated anew. The
   * broker delivers it again, to whoever has the session now.
   */
  private doubt(): void {
    if (!this.tap) return;
    this.logger.warn('The process has stood still; connecting anew');
    this.tap.destroy();
    this.tap = undefined;
  }

  private disconnect(): void {
    clearTimeout(this.retry);
    if (this.client) this.logger.warn('Another replica holds the session; standing by');
    void this.end();
  }

  private async end(): Promise<void> {
    const { client } = this;
    if (!client) return;
    this.client = undefined;
    this.tap = undefined;
    this.granted = [];
    // At once: while the goodbye is under way, the next connection may begin.
    this.handlers?.disconnected();
    await sayGoodbye(client);
  }

  /** At every connect: a broker may have lost a durable session. */
  private subscribe(client: MqttClient): void {
    const request = Object.fromEntries(
      // MQTT 5, section 3.8.3.1: with a shared subscription, retained messages are not sent anyway.
      this.filters.map((filter) => [filter, { qos: 1 as const, rh: RETAINED_IF_NEW }]),
    );
    client.subscribe(request, (error, granted) => {
      if (this.client !== client) return;
      const refused = (granted ?? []).filter((grant) => grant.qos !== 1).map((grant) => grant.topic);
      const problem = refused.length > 0 ? refused.join(', ') : error?.message;
      if (problem !== undefined) {
        this.logger.error(`Subscription refused (${problem}); trying again in 5 s`);
        setTimeout(() => {
          if (this.client === client && client.connected) this.subscribe(client);
        }, RESUBSCRIBE_MS).unref();
        return;
      }
      this.leavePlain(client);
      this.subscribeToMarks(client);
      this.granted = [...this.filters].sort();
      for (const listener of this.subscribedListeners) listener();
    });
  }

  /** The service is of use without them, but then no silence of a device is proven. */
  private subscribeToMarks(client: MqttClient): void {
    client.subscribe(this.markTopic, { qos: 1 }, (error, granted) => {
      if (this.client !== client) return;
      this.marksGranted = !error && granted?.[0]?.qos === 1;
      if (this.marksGranted) return;
      this.logger.error(`Subscription refused (${this.markTopic}): without it no device is taken for silent`);
    });
  }

  /**
   * A session that subscribed on its own, and now joins a group, would get each message twice. Afterwards: in between,
   * nobody would collect.
   */
  private leavePlain(client: MqttClient): void {
    if (this.config.mqtt.sharedGroup === undefined) return;
    client.unsubscribe([...this.plainFilters], (error) => {
      if (error && this.client === client)
        this.logger.warn(`The session's former subscriptions could not be ended (${error.message})`);
    });
  }
}
