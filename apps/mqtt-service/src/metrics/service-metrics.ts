import { Injectable } from '@nestjs/common';
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import { EventBus, REJECTION_REASONS } from '#kernel';
import { Vitals } from '../health/vitals.js';

/** https://prometheus.io/docs/practices/naming: one prefix for what is the service's own, base units, `_total` for counters. */
const PREFIX = 'mqtt_service_';

/** What Prometheus scrapes. Everything is read when it asks; between two scrapes nothing but integers is counted. */
@Injectable()
export class ServiceMetrics {
  /** The media type of {@link scrape}. */
  static readonly mediaType = Registry.PROMETHEUS_CONTENT_TYPE;

  private readonly registry = new Registry();
  private readonly rejected = new Map<string, number>(REJECTION_REASONS.map((reason) => [reason, 0]));

  constructor(
    private readonly vitals: Vitals,
    bus: EventBus,
  ) {
    // The one place that all ways in lead through, whatever topic a message came by.
    bus.subscribe({
      name: 'metrics',
      types: ['message.rejected'],
      handle: (events) => {
        for (const { data } of events) {
          const reason = String(data['reason']);
          this.rejected.set(reason, (this.rejected.get(reason) ?? 0) + 1);
        }
      },
    });
    this.describe();
    collectDefaultMetrics({ register: this.registry });
  }

  /** All metrics in Prometheus' text format. */
  async scrape(): Promise<string> {
    return this.registry.metrics();
  }

  private describe(): void {
    const { vitals, rejected } = this;
    this.counter(
      'messages_stored_total',
      'Measurement messages stored as they came in',
      () => vitals.ingest.stored,
    );
    this.counter('readings_stored_total', 'Readings stored as they came in', () => vitals.ingest.readings);
    new Counter({
      name: `${PREFIX}messages_rejected_total`,
      help: 'Messages quarantined, by reason',
      labelNames: ['reason'],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [reason, count] of rejected) this.inc({ reason }, count);
      },
    });
    this.gauge(
      'ingest_lag_seconds',
      'How long the oldest message that is not acknowledged yet has waited',
      () => vitals.ingest.lagMs / 1_000,
    );
    this.gauge(
      'messages_in_flight',
      'Messages taken from the broker and not yet acknowledged',
      () => vitals.ingest.inFlight,
    );
    this.gauge('mqtt_connected', '1 while connected to the broker', () => Number(vitals.mqtt.connected));
    this.gauge(
      'publishes_waiting',
      'Publishes of the service that the broker has not acknowledged yet',
      () => vitals.publishing.waiting,
    );
    this.counter(
      'broker_dropped_messages_total',
      'Messages the broker says it has dropped since the service started: a queue of it was full',
      () => vitals.publishing.brokerDropped ?? 0,
    );
    if (vitals.events) this.describeEvents();
    this.gauge('websocket_clients', 'Clients that watch the stream', () => vitals.webSocketClients);
    const { stream } = vitals;
    this.counter('stream_messages_sent_total', 'Messages sent to who watches the stream', () => stream.sent);
    this.counter('stream_replays_total', 'Clients that went on from where they were', () => stream.replays);
    this.counter('stream_messages_replayed_total', 'Messages sent again to these', () => stream.replayed);
    this.counter('stream_clients_dropped_total', 'Clients given up for not reading', () => stream.dropped);
    this.gauge('webhooks_active', 'Webhooks that are sent to', () => vitals.webhooks.active);
    this.gauge(
      'webhook_deliveries_pending',
      'Deliveries to webhooks that wait, in all replicas',
      () => vitals.webhooks.pending,
    );
    this.counter(
      'webhook_deliveries_total',
      'Deliveries that a webhook has taken',
      () => vitals.webhooks.delivered,
    );
    this.counter(
      'webhook_attempts_failed_total',
      'Attempts to deliver to a webhook that failed',
      () => vitals.webhooks.failed,
    );
    this.counter(
      'webhook_deliveries_dead_total',
      'Deliveries to webhooks that were given up',
      () => vitals.webhooks.dead,
    );
    this.gauge('database_up', '1 while the database answers', async () =>
      Number((await vitals.databaseLatency()) !== null),
    );
  }

  private describeEvents(): void {
    const { vitals } = this;
    this.gauge('event_system_connected', '1 while connected to the system of EVENTS_URL', () =>
      Number(vitals.events?.connected),
    );
    this.counter(
      'events_sent_total',
      'Events the system of EVENTS_URL has taken',
      () => vitals.events?.sent ?? 0,
    );
    this.gauge(
      'events_waiting',
      'Events that wait in the database for the system of EVENTS_URL, of all replicas',
      () => vitals.events?.outbox?.rows ?? 0,
    );
    this.gauge(
      'events_waiting_bytes',
      'What they take there, as EVENTS_OUTBOX_BYTES counts it',
      () => vitals.events?.outbox?.bytes ?? 0,
    );
    this.gauge('events_oldest_waiting_seconds', 'How long the first of them has waited', () => {
      const oldest = vitals.events?.outbox?.oldest;
      return oldest ? Math.max(0, Date.now() - oldest.getTime()) / 1_000 : 0;
    });
    this.gauge('events_held_back', '1 while measurements are not acknowledged because no more may wait', () =>
      Number(vitals.events?.heldBack),
    );
  }

  /** A count that is kept elsewhere. */
  private counter(name: string, help: string, read: () => number): void {
    new Counter({
      name: PREFIX + name,
      help,
      registers: [this.registry],
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  private gauge(name: string, help: string, read: () => number | Promise<number>): void {
    new Gauge({
      name: PREFIX + name,
      help,
      registers: [this.registry],
      async collect() {
        this.set(await read());
      },
    });
  }
}
