import { statfs } from 'node:fs/promises';
import { HttpException, Injectable, type OnApplicationShutdown, type OnModuleDestroy } from '@nestjs/common';
import { HealthCheckService, HealthIndicatorService, type HealthIndicatorResult } from '@nestjs/terminus';
import { Config, type RelayStatus } from '#platform';
import { Vitals } from './vitals.js';

const SAMPLE_EVERY_MS = 1_000;
const SAMPLES = 10;
const LEAST_FREE_DISK_BYTES = 100 * 1024 * 1024;

/** What the service says of itself and of what it depends on. */
@Injectable()
export class ServiceHealth implements OnModuleDestroy, OnApplicationShutdown {
  private stopping = false;
  private readonly processed: number[] = [];
  private readonly sampler: NodeJS.Timeout;

  constructor(
    private readonly config: Config,
    private readonly vitals: Vitals,
    private readonly terminus: HealthCheckService,
    private readonly indicators: HealthIndicatorService,
  ) {
    this.sampler = setInterval(() => this.sample(), SAMPLE_EVERY_MS);
    this.sampler.unref();
  }

  /** From here on it is not ready: load balancers stop sending. */
  announceStop(): void {
    this.stopping = true;
  }

  onModuleDestroy(): void {
    this.announceStop();
  }

  onApplicationShutdown(): void {
    clearInterval(this.sampler);
  }

  /** Whether it can take measurements in and answer for them. */
  async readiness(): Promise<{ ready: boolean; checks: Readonly<Record<string, string>> }> {
    const database = (await this.vitals.databaseLatency()) !== null;
    const mqtt = this.vitals.subscribed;
    return {
      ready: database && mqtt && !this.stopping,
      checks: {
        database: database ? 'up' : 'down',
        mqtt: mqtt ? 'up' : 'down',
        ...(this.stopping && { service: 'stopping' }),
      },
    };
  }

  /** Whether it does all it is there for. One that is ready may still be held up, by who takes its events. */
  async isWhole(): Promise<boolean> {
    const { events, ingest } = this.vitals;
    return (await this.readiness()).ready && !ingest.heldUp && (events?.connected ?? true);
  }

  /** Terminus' report. `healthy` is false when a part is down. */
  async report(): Promise<{ healthy: boolean; body: object }> {
    const { events } = this.vitals;
    try {
      const body = await this.terminus.check([
        () => this.databaseIndicator(),
        () => this.mqttIndicator(),
        () => this.memoryIndicator(),
        () => this.diskIndicator(),
        () => this.ingestIndicator(),
        ...(events ? [() => this.eventsIndicator(events)] : []),
        () => this.indicators.check('websocket').up({ clients: this.vitals.webSocketClients }),
        // A receiver that is away is no fault of the service's.
        () => this.indicators.check('webhooks').up({ ...this.vitals.webhooks }),
      ]);
      return { healthy: true, body };
    } catch (error) {
      if (!(error instanceof HttpException)) throw error;
      return { healthy: false, body: error.getResponse() as object };
    }
  }

  private async databaseIndicator(): Promise<HealthIndicatorResult> {
    const indicator = this.indicators.check('database');
    const latency = await this.vitals.databaseLatency();
    return latency === null
      ? indicator.down({ message: 'not reachable' })
      : indicator.up({ latency_ms: round(latency) });
  }

  private mqttIndicator(): HealthIndicatorResult {
    const { role, connected, subscriptions } = this.vitals.mqtt;
    const { waiting, brokerDropped } = this.vitals.publishing;
    const indicator = this.indicators.check('mqtt');
    const details = {
      role,
      connected,
      subscriptions,
      queue_depth: waiting,
      broker_dropped_messages: brokerDropped,
    };
    return this.vitals.subscribed ? indicator.up(details) : indicator.down(details);
  }

  private memoryIndicator(): HealthIndicatorResult {
    const { rss, heapUsed } = process.memoryUsage();
    return this.indicators.check('memory').up({ rss_bytes: rss, heap_used_bytes: heapUsed });
  }

  private async diskIndicator(): Promise<HealthIndicatorResult> {
    const indicator = this.indicators.check('disk');
    const path = this.config.databaseUrl === undefined ? this.config.dataDir : '.';
    try {
      const { bavail, bsize, blocks } = await statfs(path);
      const details = { free_bytes: bavail * bsize, total_bytes: blocks * bsize };
      return details.free_bytes >= LEAST_FREE_DISK_BYTES
        ? indicator.up(details)
        : indicator.degraded(details);
    } catch {
      return indicator.degraded({ message: 'not readable' });
    }
  }

  private ingestIndicator(): HealthIndicatorResult {
    const { stored, rejected, readings, lagMs, inFlight, heldUp } = this.vitals.ingest;
    const [oldest = 0] = this.processed;
    const newest = this.processed.at(-1) ?? 0;
    const seconds = Math.max(1, this.processed.length - 1) * (SAMPLE_EVERY_MS / 1_000);
    const indicator = this.indicators.check('ingest');
    const details = {
      rate_per_second: round((newest - oldest) / seconds),
      lag_ms: lagMs,
      in_flight: inFlight,
      messages_stored: stored,
      readings_stored: readings,
      rejected,
    };
    return heldUp ? indicator.degraded(details) : indicator.up(details);
  }

  private eventsIndicator(events: RelayStatus): HealthIndicatorResult {
    const { system, connected, sent, outbox, inHand, heldBack } = events;
    const indicator = this.indicators.check('events');
    const details = {
      system,
      connected,
      sent,
      waiting: outbox?.rows ?? null,
      waiting_bytes: outbox?.bytes ?? null,
      oldest_waiting_since: outbox?.oldest?.toISOString() ?? null,
      in_hand: inHand,
      held_back: heldBack,
    };
    return connected && !heldBack ? indicator.up(details) : indicator.degraded(details);
  }

  private sample(): void {
    const { stored, rejected } = this.vitals.ingest;
    this.processed.push(stored + rejected);
    if (this.processed.length > SAMPLES) this.processed.shift();
  }
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
