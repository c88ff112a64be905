import { Injectable, Logger } from '@nestjs/common';
import { connect, type IClientPublishOptions, type MqttClient } from 'mqtt';
import { Config } from '../config/config.js';
import { clientOptions, ConnectionComplaint } from './client-options.js';

const RECONNECT_MS = 1_000;
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
  private waiting = 0;
  private droppedBefore: number | null = null;
  private dropped: number | null = null;

  constructor(private readonly config: Config) {}

  /** Begins to connect; it may take for ever. */
  open(): void {
    const client = connect({
      ...clientOptions(this.config, publisherClientId(this.config)),
      clean: true,
      reconnectPeriod: RECONNECT_MS,
      reconnectOnConnackError: true,
    });
    this.client = client;
    const complaint = new ConnectionComplaint(this.logger, this.config);
    client.on('error', (error) => complaint.report(error));
    client.on('connect', () => {
      complaint.reset();
      if (!this.config.mqtt.embedded) client.subscribe(DROPPED_TOPIC, { qos: 0 });
      for (const listener of this.connectedListeners) listener();
    });
    client.on('message', (topic, payload) => {
      if (topic === DROPPED_TOPIC) this.countDropped(Number(payload.toString()));
    });
  }

  get status(): PublisherStatus {
    return {
      connected: this.client?.connected ?? false,
      waiting: this.waiting,
      brokerDropped: this.dropped,
    };
  }

  /** Calls back each time the connection stands. */
  onConnected(listener: () => void): void {
    this.connectedListeners.push(listener);
  }

  /**
   * Publishes at QoS 1. Resolves when the broker has taken the message; while the broker is away it waits,
   * and goes out at the next connection.
   * @throws when the connection is being closed for good.
   */
  async publish(topic: string, payload: string, options: IClientPublishOptions = {}): Promise<void> {
    if (!this.client) throw new Error('the MQTT connection is not open');
    this.waiting += 1;
    try {
      await this.client.publishAsync(topic, payload, { ...options, qos: 1 });
    } finally {
      this.waiting -= 1;
    }
  }

  async close(): Promise<void> {
    const { client } = this;
    // Forced where the broker is away, because publishes that wait for it never end.
    await client?.endAsync(!client.connected);
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
