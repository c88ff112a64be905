import { Inject, Injectable, Logger } from '@nestjs/common';
import { MqttClient } from 'mqtt';
import { Config } from '../config/config.js';
import { EmbeddedBroker } from '../embedded/embedded-broker.js';
import { clientOptions, ConnectionComplaint, openSocket, sayGoodbye } from './client-options.js';
import { PASSING, PublishLane, type Outgoing, type PublishOutcome } from './publish-lane.js';
import { PublishTap } from './publish-tap.js';

const RECONNECT_MS = 1_000;
/** Events under way at once, at most. */
const LANE_WINDOW = 2_000;
/** Mosquitto's own count of messages it could not keep (mosquitto(8), "Broker status"). */
const DROPPED_TOPIC = '$SYS/broker/publish/messages/dropped';

/** What there is to know of the publishing connection. */
export interface PublisherStatus {
  readonly connected: boolean;
  /** Publishes that the broker has not acknowledged yet. */
  readonly waiting: number;
  /** Messages the broker has dropped since the service started; null: it does not say. */
  readonly brokerDropped: number | null;
}

/** Packet ids for what the client library sends itself: the others are the lanes'. */
class LowMessageIds {
  private last = 0;

  allocate(): number {
    this.last = this.last + 1 < PASSING.firstId ? this.last + 1 : 1;
    return this.last;
  }

  getLastAllocated(): number {
    return this.last;
  }

  register(): boolean {
    return true;
  }

  deallocate(): void {
    // As in the library's own: they are given out in turn.
  }

  clear(): void {
    this.last = 0;
  }
}

/**
 * How many messages a lane may have unacknowledged: its share of what the broker accepts (MQTT 5, section 3.2.2.3.3).
 */
function laneWindow(share: number, receiveMaximum = LANE_WINDOW): number {
  return Math.max(1, Math.min(LANE_WINDOW, Math.floor(receiveMaximum * share)));
}

const SHARE_OF_EVENTS = 0.7;
const SHARE_OF_COMMANDS = 0.25;

/** The client id of the publishing connection. */
function publisherClientId(config: Config): string {
  return `${config.mqtt.clientId}-out-${process.pid.toString(36)}${process.hrtime()[1].toString(36)}`;
}

/**
 * The connection the service publishes on: commands and events. It is not the consumer's, whose reading stops while
 * much is in hand: acknowledgements of publishes would then wait behind the very messages that wait for them.
 */
@Injectable()
export class MqttPublisher {
  private readonly logger = new Logger('MqttPublisher');
  private readonly connectedListeners: (() => void)[] = [];
  private client: MqttClient | undefined;
  private droppedBefore: number | null = null;
  private dropped: number | null = null;

  private pumping = false;
  private readonly events: PublishLane;
  private readonly commands: PublishLane;

  /** @param broker null: it is managed elsewhere. */
  constructor(
    private readonly config: Config,
    @Inject(EmbeddedBroker) private readonly broker: EmbeddedBroker | null,
  ) {
    const { protocolVersion } = config.mqtt;
    this.events = new PublishLane(protocolVersion, () =>
      this.logger.error(
        'An event is larger than what the broker accepts, even reduced: it was not published',
      ),
    );
    this.commands = new PublishLane(protocolVersion, undefined, PASSING);
  }

  /** Begins to connect; it may take for ever. */
  open(): void {
    const { config, events, commands } = this;
    const { protocolVersion } = config.mqtt;
    let tap: PublishTap | undefined;
    const client = new MqttClient(
      () => {
        tap = new PublishTap(
          openSocket(config),
          protocolVersion,
          ({ topic, payload }) => {
            if (topic === DROPPED_TOPIC) this.countDropped(Number(payload.toString()));
          },
          (packetId, reason) => this.acknowledged(packetId, reason),
        );
        return tap;
      },
      {
        ...clientOptions(config, publisherClientId(config)),
        clean: true,
        reconnectPeriod: RECONNECT_MS,
        reconnectOnConnackError: true,
        messageIdProvider: new LowMessageIds(),
      },
    );
    this.client = client;
    const complaint = new ConnectionComplaint(this.logger, config);
    client.on('error', (error) => complaint.report(error));
    client.on('connect', ({ properties }) => {
      complaint.reset();
      if (!config.mqtt.embedded) client.subscribe(DROPPED_TOPIC, { qos: 0 });
      const connection = tap;
      for (const [lane, share] of [
        [events, SHARE_OF_EVENTS],
        [commands, SHARE_OF_COMMANDS],
      ] as const) {
        lane.connected(
          laneWindow(share, properties?.receiveMaximum),
          (frames) => void connection?.write(frames),
          properties?.maximumPacketSize,
        );
      }
      for (const listener of this.connectedListeners) listener();
    });
    client.on('close', () => {
      commands.disconnected(events.unanswered);
      events.disconnected();
    });
  }

  /** Whether the broker can say that nobody gets a message. */
  get tellsUnheard(): boolean {
    return this.broker !== null || this.config.mqtt.protocolVersion === 5;
  }

  get status(): PublisherStatus {
    return {
      connected: this.client?.connected ?? false,
      waiting: this.events.waiting + this.commands.waiting,
      brokerDropped: this.dropped,
    };
  }

  /** Calls back each time the connection stands. */
  onConnected(listener: () => void): void {
    this.connectedListeners.push(listener);
  }

  /**
   * Publishes messages at QoS 1, in their order, on the connection that stands now and on no other: whoever keeps them
   * says whether, and when, they go out again. A client library would send them again at the next connection, whatever
   * became of them meanwhile.
   *
   * The embedded broker, whose MQTT 3.1.1 has no word for it, is asked before whether anybody would get a message; one that
   * nobody would get is as good as published then, and is spared.
   * @returns for each what has become of it, once that is known or the connection has ended.
   * @throws when no connection stands.
   */
  async publishNow(messages: readonly Outgoing[]): Promise<readonly PublishOutcome[]> {
    if (!this.broker) return this.commands.publishEach(messages);
    const heard = await this.broker.heardAmong(messages.map(({ topic }) => topic));
    const published = await this.commands.publishEach(messages.filter(({ topic }) => heard.has(topic)));
    const outcomes = published.values();
    return messages.map(({ topic }): PublishOutcome => {
      const outcome = heard.has(topic) ? outcomes.next().value : undefined;
      return outcome ?? { kind: 'unheard' };
    });
  }

  /**
   * Publishes many messages at QoS 1, in their order. Resolves when the broker has taken all of them; while the broker
   * is away they wait, and go out at the next connection.
   * @throws when the broker refuses one, or the connection is being closed for good.
   */
  async publishAll(messages: readonly Outgoing[]): Promise<void> {
    await this.events.publish(messages);
  }

  async close(): Promise<void> {
    const { client } = this;
    this.events.close();
    this.commands.close();
    if (client) await sayGoodbye(client);
  }

  /** What arrives together is made room for together. */
  private acknowledged(packetId: number, reason: number): boolean {
    const { events, commands } = this;
    if (!events.acknowledged(packetId, reason) && !commands.acknowledged(packetId, reason)) return false;
    if (!this.pumping) {
      this.pumping = true;
      queueMicrotask(() => {
        this.pumping = false;
        events.pump();
        commands.pump();
      });
    }
    return true;
  }

  /** The broker counts from its own start; a smaller number than before says that it has started anew. */
  private countDropped(total: number): void {
    if (!Number.isSafeInteger(total)) return;
    const before = this.droppedBefore;
    const risen = before === null ? 0 : total >= before ? total - before : total;
    this.droppedBefore = total;
    this.dropped = (this.dropped ?? 0) + risen;
    // Perhaps the service's own, while it was away: they are in no count of this process.
    if (before === null && total > 0)
      this.logger.warn(
        `The broker has dropped ${total} messages before this service started: a queue of it was full (Mosquitto: max_queued_messages)`,
      );
    if (risen > 0)
      this.logger.error(
        `The broker has dropped ${risen} messages: a queue of it is full (Mosquitto: max_queued_messages)`,
      );
  }
}
