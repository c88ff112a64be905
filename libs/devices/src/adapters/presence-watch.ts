import { Injectable, Logger } from '@nestjs/common';
import { Clock, EventBus, type DomainEvent } from '#kernel';
import { Batcher, Config, errorCode, MqttConnection, MqttTransport } from '#platform';
import { PresenceKeeper } from '../application/presence-keeper.js';

/** A device that sends data all the time is noted as seen this often. */
const NOTE_EVERY_MS = 1_000;
const BATCH = { size: 500, age: 50, concurrency: 1 };
const CHECKS_PER_SILENCE = 5;

interface Sighting {
  readonly deviceId: string;
  readonly at: Date;
}

/** Feeds the presence with what is seen of devices besides their status messages: data, and silence. */
@Injectable()
export class PresenceWatch {
  private readonly logger = new Logger('Presence');
  private readonly notedAt = new Map<string, number>();
  private readonly batcher = new Batcher<Sighting>(BATCH, (sightings) => this.note(sightings));
  private timer: NodeJS.Timeout | undefined;
  private listeningSince: number | undefined;

  constructor(
    private readonly presence: PresenceKeeper,
    private readonly config: Config,
    private readonly clock: Clock,
    private readonly connection: MqttConnection,
    bus: EventBus,
    transport: MqttTransport,
  ) {
    bus.subscribe({
      name: 'presence',
      types: ['device.data.received'],
      handle: (events) => this.dataReceived(events),
    });
    bus.subscribe({
      name: 'presence-forget',
      types: ['device.disconnected'],
      handle: (events) => events.forEach((event) => this.notedAt.delete(event.deviceId ?? '')),
    });
    connection.onSubscribed(() => {
      this.listeningSince = this.clock.now().getTime();
    });
    transport.onDrain(() => this.stop());
  }

  /** Begins to look for silent devices. */
  start(): void {
    const { deviceOfflineAfter } = this.config;
    const every = Math.max(100, Math.min(30_000, deviceOfflineAfter / CHECKS_PER_SILENCE));
    this.timer = setInterval(() => void this.checkSilence(deviceOfflineAfter), every);
  }

  private async stop(): Promise<void> {
    clearInterval(this.timer);
    await this.batcher.drain();
  }

  private dataReceived(events: readonly DomainEvent[]): void {
    const now = this.clock.now();
    const sightings: Sighting[] = [];
    for (const { deviceId } of events) {
      if (deviceId === null || (this.notedAt.get(deviceId) ?? 0) > now.getTime() - NOTE_EVERY_MS) continue;
      this.notedAt.set(deviceId, now.getTime());
      sightings.push({ deviceId, at: now });
    }
    this.batcher.add(sightings);
  }

  private async note(sightings: readonly Sighting[]): Promise<void> {
    try {
      await this.presence.noteSeen(new Map(sightings.map(({ deviceId, at }) => [deviceId, at])));
    } catch (error) {
      // The next measurement of the device notes it again.
      for (const { deviceId } of sightings) this.notedAt.delete(deviceId);
      this.logger.warn(`Sightings not stored (${errorCode(error) ?? String(error)})`);
    }
  }

  /** Devices are silent towards a service that does not listen: only a full silence heard counts. */
  private async checkSilence(silence: number): Promise<void> {
    if (!this.connection.status.connected) this.listeningSince = undefined;
    if (this.listeningSince === undefined || this.clock.now().getTime() - this.listeningSince < silence)
      return;
    try {
      await this.presence.expireSilent(silence);
    } catch (error) {
      this.logger.warn(`Silence not checked (${errorCode(error) ?? String(error)})`);
    }
  }
}
