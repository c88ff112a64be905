import { Injectable } from '@nestjs/common';
import { Clock } from '#kernel';
import { Config, MqttConsumer, MqttPublisher, MqttTransport } from '#platform';
import { DeviceHearing } from '../ports/device-hearing.js';

/** Clocks of replicas may be so far apart, and what waited may take so long to be read. */
const MARGIN_MS = 30_000;
const MARK_AGAIN_MS = 1_000;

/**
 * What is read may have waited in the broker since before a restart in which it lost the device: the time of reading proves
 * nothing. What is read after a mark ({@link MqttConsumer.mark}) has come back that was sent when both connections stood
 * does, to the one replica that reads, whose clock dates all of it.
 *
 * Of what others read the order is not known. It has to be a margin younger than the connection, so that a command is kept
 * back for somewhat too long rather than sent to nobody.
 */
@Injectable()
export class MqttDeviceHearing extends DeviceHearing {
  /** Since when the way to the broker has been open. */
  private openSince: Date;
  /** Since when both connections have stood. */
  private bothSince: Date;
  private provenSince: Date | null = null;
  private markDue = 0;

  constructor(
    private readonly config: Config,
    private readonly clock: Clock,
    private readonly consumer: MqttConsumer,
    publisher: MqttPublisher,
    transport: MqttTransport,
  ) {
    super();
    this.openSince = this.bothSince = clock.now();
    publisher.onConnected(() => {
      this.openSince = clock.now();
      this.beginAnew();
    });
    consumer.onSubscribed(() => this.beginAnew());
    transport.onMarkReached((markedAt) => {
      // Later than whatever was read before.
      if (markedAt >= this.bothSince) this.provenSince ??= new Date(clock.now().getTime() + 1);
    });
  }

  get since(): Date | null {
    const { consumer } = this;
    const readsAll = this.config.mqtt.sharedGroup === undefined && consumer.isHolder;
    if (!readsAll || !consumer.hasMarks) return new Date(this.openSince.getTime() + MARGIN_MS);
    if (!this.provenSince) this.mark();
    return this.provenSince;
  }

  private beginAnew(): void {
    this.bothSince = this.clock.now();
    this.provenSince = null;
    this.markDue = 0;
    this.mark();
  }

  /** One may be lost. */
  private mark(): void {
    if (performance.now() < this.markDue) return;
    this.markDue = performance.now() + MARK_AGAIN_MS;
    this.consumer.mark(this.clock.now());
  }
}
