import { Injectable } from '@nestjs/common';
import {
  Database,
  EventRelay,
  MqttConsumer,
  MqttPublisher,
  MqttTransport,
  type ConsumerStatus,
  type PublisherStatus,
  type RelayStatus,
} from '#platform';
import { Ingest, LiveFeed, type StreamCounts } from '#telemetry';
import { WebhookDirectory, WebhookDispatcher } from '#webhooks';

/** A batch takes moments: what has waited for so long is held up, by the database or by whoever takes the events. */
const HELD_UP_MS = 30_000;

/** How the ingest does. */
export interface IngestVitals {
  /** Messages stored, messages quarantined and readings stored since the start. */
  readonly stored: number;
  readonly rejected: number;
  readonly readings: number;
  /** How long the oldest message that is not acknowledged yet has waited. */
  readonly lagMs: number;
  /** Messages taken from the broker and not yet acknowledged. */
  readonly inFlight: number;
  /** Messages have waited for longer than they ever should. */
  readonly heldUp: boolean;
}

/** How webhooks do. */
export interface WebhookVitals {
  readonly active: number;
  /** Deliveries that wait, in all queues. */
  readonly pending: number;
  /** Deliveries made, attempts that failed and deliveries given up since the start, by this replica. */
  readonly delivered: number;
  readonly failed: number;
  readonly dead: number;
}

/** What can be measured of the running service: the one source of health and metrics. */
@Injectable()
export class Vitals {
  constructor(
    private readonly database: Database,
    private readonly consumer: MqttConsumer,
    private readonly publisher: MqttPublisher,
    private readonly transport: MqttTransport,
    private readonly intake: Ingest,
    private readonly feed: LiveFeed,
    private readonly hooks: WebhookDirectory,
    private readonly dispatcher: WebhookDispatcher,
    private readonly relay: EventRelay,
  ) {}

  get ingest(): IngestVitals {
    const { lag, unacknowledged } = this.transport;
    return { ...this.intake.totals, lagMs: lag, inFlight: unacknowledged, heldUp: lag > HELD_UP_MS };
  }

  get mqtt(): ConsumerStatus {
    return this.consumer.status;
  }

  get publishing(): PublisherStatus {
    return this.publisher.status;
  }

  /** Null: events go to the broker alone. */
  get events(): RelayStatus | null {
    return this.relay.status;
  }

  /** Whether the broker delivers to the service, or to the replica that it stands by for. */
  get subscribed(): boolean {
    const { role, connected, subscriptions } = this.mqtt;
    // A replica that stands by is of use as it is, and must not hold up a rolling update.
    return role === 'standby' ? this.publishing.connected : connected && subscriptions.length > 0;
  }

  get webSocketClients(): number {
    return this.feed.size;
  }

  /** What the stream has done since the start. */
  get stream(): Readonly<StreamCounts> {
    return this.feed.counts;
  }

  get webhooks(): WebhookVitals {
    return { active: this.hooks.size, pending: this.dispatcher.backlog, ...this.dispatcher.totals };
  }

  /** The database's round trip in milliseconds; null when it does not answer. */
  async databaseLatency(): Promise<number | null> {
    return this.database.ping().catch(() => null);
  }
}
