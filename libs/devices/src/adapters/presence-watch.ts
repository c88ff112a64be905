import { Injectable, Logger } from '@nestjs/common';
import { Clock, EventBus, type DomainEvent } from '#kernel';
import {
  Config,
  errorCode,
  MqttConsumer,
  MqttPublisher,
  MqttTransport,
  SharedGroup,
  type GroupHearing,
} from '#platform';
import { PresenceHerald } from '../application/presence-herald.js';
import { PresenceKeeper } from '../application/presence-keeper.js';
import { both, type Sighting } from '../domain/presence.js';

/** How long a device that nobody knew to be there waits for others, and one that sends all the time is not noted again. */
const NOTE_NEW_AFTER_MS = 50;
const NOTE_EVERY_MS = 2_000;
const CHECKS_PER_SILENCE = 5;

/**
 * Feeds the presence with what is seen of devices besides their status messages: data, and silence. One timer does for
 * all devices, and of several replicas one at a time looks for silent ones.
 *
 * That nothing has been heard of a device proves nothing while its messages may wait somewhere: in the broker, behind a
 * long backlog or in the session of a replica that is away, or here, to be stored. So marks are sent through the broker
 * ({@link MqttConsumer.mark}); one that has come back says that all published before it has been heard. Only what all
 * replicas of a shared group have heard counts.
 */
@Injectable()
export class PresenceWatch {
  private readonly logger = new Logger('Presence');
  /** Devices that were online when last looked at. */
  private readonly online = new Set<string>();
  /** The last data that devices have sent since then. */
  private sightings = new Map<string, Sighting>();
  private noting: Promise<boolean> = Promise.resolve(true);
  private noteTimer: { readonly due: number; readonly timer: NodeJS.Timeout } | undefined;
  private timer: NodeJS.Timeout | undefined;
  /** Since when the connection stands. */
  private listeningSince: Date | undefined;
  /** All that was published before is known. */
  private heardUntil = new Date(0);
  private lastMark = new Date(0);
  /** The silence of devices can't be told for long now, and that is in the log. */
  private isDeaf = false;

  constructor(
    private readonly presence: PresenceKeeper,
    private readonly herald: PresenceHerald,
    private readonly config: Config,
    private readonly clock: Clock,
    private readonly consumer: MqttConsumer,
    private readonly group: SharedGroup,
    private readonly publisher: MqttPublisher,
    transport: MqttTransport,
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
      this.listeningSince = this.clock.now();
      // What waits is read first; from then on, what comes is new.
      this.mark();
    });
    transport.onMarkReached((markedAt) => void this.heard(markedAt));
    transport.onDrain(() => this.stop());
  }

  /** Begins to look for silent devices, and for changes that were not told of. */
  start(): void {
    const every = Math.max(100, Math.min(30_000, this.often));
    const tellUntold = oneAtATime(() => this.tellUntold());
    this.timer = setInterval(() => {
      this.mark();
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
    this.herald.stop();
  }

  private dataReceived(events: readonly DomainEvent[]): void {
    let isNew = false;
    for (const { deviceId, late, time, waited = null } of events) {
      if (deviceId === null || late) continue;
      // Not the time it is noted: a will may have come in between.
      const sighting = { at: new Date(time), waited };
      this.sightings.set(deviceId, both(this.sightings.get(deviceId), sighting));
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

  /** @returns whether all is noted that was seen until now. */
  private async note(): Promise<boolean> {
    const { sightings } = this;
    if (sightings.size === 0) return true;
    this.sightings = new Map();
    for (const deviceId of sightings.keys()) this.online.add(deviceId);
    try {
      await this.presence.noteSeen(sightings);
      return true;
    } catch (error) {
      for (const [deviceId, sighting] of sightings) {
        // The next measurement of the device notes it again, and so does the next note.
        this.online.delete(deviceId);
        const since = this.sightings.get(deviceId);
        this.sightings.set(deviceId, since ? both(sighting, since) : sighting);
      }
      this.logger.warn(`Sightings not stored (${errorCode(error) ?? String(error)})`);
      return false;
    }
  }

  /** Sends the next mark. Where the last has not come back, others still have to know that this replica is there. */
  private mark(): void {
    if (!this.consumer.status.connected) {
      this.listeningSince = undefined;
      return;
    }
    if (this.heardUntil < this.lastMark) this.checkSilence();
    this.lastMark = this.clock.now();
    this.consumer.mark(this.lastMark);
  }

  /** All that was published before the mark has been seen through; what was seen of devices must be noted, too. */
  private async heard(markedAt: Date): Promise<void> {
    clearTimeout(this.noteTimer?.timer);
    this.startNoting();
    if (!(await this.noting)) return;
    this.heardUntil = markedAt;
    this.checkSilence();
  }

  private readonly checkSilence = oneAtATime(async () => {
    const { listeningSince: since, heardUntil: until } = this;
    const { deviceOfflineAfter } = this.config;
    try {
      const own = since && until > since ? { since, until } : null;
      const heard = await this.group.hear(own, deviceOfflineAfter);
      this.complain(heard);
      if (!heard.hearing) return;
      const before = new Date(heard.hearing.until.getTime() - deviceOfflineAfter);
      if (heard.hearing.since <= before) await this.presence.expireSilent(before);
    } catch (error) {
      this.logger.warn(`Silence not checked (${errorCode(error) ?? String(error)})`);
    }
  });

  /** Says once that nothing has been proven for longer than a silence, and when it is over. */
  private complain({ hearing, last }: GroupHearing): void {
    const since = hearing?.until ?? this.listeningSince;
    const isDeaf =
      since !== undefined &&
      this.clock.now().getTime() - since.getTime() > 2 * this.config.deviceOfflineAfter;
    if (isDeaf === this.isDeaf) return;
    this.isDeaf = isDeaf;
    if (!isDeaf) this.logger.log('Devices are taken for silent again');
    else {
      const where = last === null ? 'the broker' : `the session of another replica, such as ${last}`;
      this.logger.warn(`No device is taken for silent: its messages may wait in ${where}`);
    }
  }

  /** Nothing while it could not be told: whoever has a broker tells it. */
  private async tellUntold(): Promise<void> {
    if (this.config.mqtt.topics.events !== '' && !this.publisher.status.connected) return;
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
