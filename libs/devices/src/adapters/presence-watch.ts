import { Injectable, Logger } from '@nestjs/common';
import { Clock, EventBus, type DomainEvent } from '#kernel';
import { Config, errorCode, MqttConsumer, MqttTransport } from '#platform';
import { PresenceHerald } from '../application/presence-herald.js';
import { PresenceKeeper } from '../application/presence-keeper.js';

/** How long a device that nobody knew to be there waits for others, and one that sends all the time is not noted again. */
const NOTE_NEW_AFTER_MS = 50;
const NOTE_EVERY_MS = 2_000;
const CHECKS_PER_SILENCE = 5;
/** A message that has waited for so long to be stored: others may wait with it, and their devices are not silent. */
const MAX_LAG_MS = 5_000;

/**
 * Feeds the presence with what is seen of devices besides their status messages: data, and silence. One timer does for
 * all devices, and of several replicas one at a time looks for silent ones.
 */
@Injectable()
export class PresenceWatch {
  private readonly logger = new Logger('Presence');
  /** Devices that were online when last looked at. */
  private readonly online = new Set<string>();
  /** When the last data came in that devices have sent since then. */
  private sightings = new Map<string, string>();
  private noting: Promise<void> = Promise.resolve();
  private noteTimer: { readonly due: number; readonly timer: NodeJS.Timeout } | undefined;
  private timer: NodeJS.Timeout | undefined;
  private listeningSince: number | undefined;

  constructor(
    private readonly presence: PresenceKeeper,
    private readonly herald: PresenceHerald,
    private readonly config: Config,
    private readonly clock: Clock,
    private readonly consumer: MqttConsumer,
    private readonly transport: MqttTransport,
    bus: EventBus,
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

  /** Begins to look for silent devices, and for changes that were not told of. */
  start(): void {
    const every = Math.max(100, Math.min(30_000, this.often));
    const checkSilence = oneAtATime(() => this.checkSilence());
    const tellUntold = oneAtATime(() => this.tellUntold());
    this.timer = setInterval(() => {
      checkSilence();
      tellUntold();
    }, every);
  }

  /** So much of a silence that being late by it matters little. */
  private get often(): number {
    return this.config.deviceOfflineAfter / CHECKS_PER_SILENCE;
  }

  private async stop(): Promise<void> {
    clearInterval(this.timer);
    this.noteIn(0);
    await this.noting;
  }

  private dataReceived(events: readonly DomainEvent[]): void {
    let isNew = false;
    for (const { deviceId, late, time } of events) {
      if (deviceId === null || late) continue;
      // Not the time it is noted: a will may have come in between.
      this.sightings.set(deviceId, time);
      isNew ||= !this.online.has(deviceId);
    }
    this.noteIn(isNew ? NOTE_NEW_AFTER_MS : Math.min(NOTE_EVERY_MS, this.often));
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
      await this.presence.noteSeen(
        new Map([...sightings].map(([deviceId, time]) => [deviceId, new Date(time)])),
      );
    } catch (error) {
      for (const [deviceId, time] of sightings) {
        // The next measurement of the device notes it again, and so does the next note.
        this.online.delete(deviceId);
        if (!this.sightings.has(deviceId)) this.sightings.set(deviceId, time);
      }
      this.heardNothing();
      this.logger.warn(`Sightings not stored (${errorCode(error) ?? String(error)})`);
    }
  }

  /** Devices are silent towards a service that does not listen: only a full silence heard counts. */
  private async checkSilence(): Promise<void> {
    const { deviceOfflineAfter } = this.config;
    if (!this.consumer.status.connected) this.listeningSince = undefined;
    if (this.transport.lag > Math.min(MAX_LAG_MS, this.often)) this.heardNothing();
    const since = this.listeningSince;
    if (since === undefined || this.clock.now().getTime() - since < deviceOfflineAfter) return;
    try {
      await this.presence.expireSilent(deviceOfflineAfter);
    } catch (error) {
      this.heardNothing();
      this.logger.warn(`Silence not checked (${errorCode(error) ?? String(error)})`);
    }
  }

  /** What was heard until now could not be stored: it is as if nobody had listened. */
  private heardNothing(): void {
    if (this.listeningSince !== undefined) this.listeningSince = this.clock.now().getTime();
  }

  private async tellUntold(): Promise<void> {
    try {
      await this.herald.tellUntold();
    } catch (error) {
      this.logger.warn(`Changes not told of (${errorCode(error) ?? String(error)})`);
    }
  }
}

/** Work that is left out while it is still being done. */
function oneAtATime(work: () => Promise<void>): () => void {
  let isBusy = false;
  return () => {
    if (isBusy) return;
    isBusy = true;
    void work().finally(() => {
      isBusy = false;
    });
  };
}
