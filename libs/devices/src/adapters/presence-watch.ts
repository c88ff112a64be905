import { Injectable, Logger } from '@nestjs/common';
import { Clock, EventBus, type DomainEvent } from '#kernel';
import { Config, errorCode, MqttConsumer, MqttTransport } from '#platform';
import { PresenceKeeper } from '../application/presence-keeper.js';

/** How long a device that nobody knew to be there waits for others, and one that sends all the time is not noted again. */
const NOTE_NEW_AFTER_MS = 50;
const NOTE_EVERY_MS = 2_000;
const CHECKS_PER_SILENCE = 5;

/** Feeds the presence with what is seen of devices besides their status messages: data, and silence. */
@Injectable()
export class PresenceWatch {
  private readonly logger = new Logger('Presence');
  /** Devices that were online when last looked at. */
  private readonly online = new Set<string>();
  /** When devices have sent data since then. */
  private sightings = new Map<string, Date>();
  private noting: Promise<void> = Promise.resolve();
  private noteTimer: { readonly due: number; readonly timer: NodeJS.Timeout } | undefined;
  private timer: NodeJS.Timeout | undefined;
  private listeningSince: number | undefined;

  constructor(
    private readonly presence: PresenceKeeper,
    private readonly config: Config,
    private readonly clock: Clock,
    private readonly consumer: MqttConsumer,
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
      handle: (events) => events.forEach((event) => this.online.delete(event.deviceId ?? '')),
    });
    consumer.onSubscribed(() => {
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
    this.noteIn(0);
    await this.noting;
  }

  private dataReceived(events: readonly DomainEvent[]): void {
    const now = this.clock.now();
    let isNew = false;
    for (const { deviceId, late } of events) {
      if (deviceId === null || late) continue;
      this.sightings.set(deviceId, now);
      isNew ||= !this.online.has(deviceId);
    }
    this.noteIn(isNew ? NOTE_NEW_AFTER_MS : NOTE_EVERY_MS);
  }

  private noteIn(ms: number): void {
    const due = performance.now() + ms;
    if (this.noteTimer && this.noteTimer.due <= due) return;
    clearTimeout(this.noteTimer?.timer);
    if (ms === 0) this.startNoting();
    else this.noteTimer = { due, timer: setTimeout(() => this.startNoting(), ms) };
  }

  private startNoting(): void {
    this.noteTimer = undefined;
    this.noting = this.noting.then(() => this.note());
  }

  private async note(): Promise<void> {
    const { sightings } = this;
    if (sightings.size === 0) return;
    this.sightings = new Map();
    for (const deviceId of sightings.keys()) this.online.add(deviceId);
    try {
      await this.presence.noteSeen(sightings);
    } catch (error) {
      // The next measurement of the device notes it again.
      for (const deviceId of sightings.keys()) this.online.delete(deviceId);
      this.logger.warn(`Sightings not stored (${errorCode(error) ?? String(error)})`);
    }
  }

  /** Devices are silent towards a service that does not listen: only a full silence heard counts. */
  private async checkSilence(silence: number): Promise<void> {
    if (!this.consumer.status.connected) this.listeningSince = undefined;
    if (this.listeningSince === undefined || this.clock.now().getTime() - this.listeningSince < silence)
      return;
    try {
      await this.presence.expireSilent(silence);
    } catch (error) {
      this.logger.warn(`Silence not checked (${errorCode(error) ?? String(error)})`);
    }
  }
}
