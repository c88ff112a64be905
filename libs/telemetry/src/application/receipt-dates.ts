import { MicroDate } from '#kernel';

/** Devices remembered before those are forgotten whose dates have passed. */
const MANY = 1_000;
const MICROS = 1_000;

/** The part of each millisecond that is one replica's; `from` is included, `to` is not. */
export interface MicroRange {
  readonly from: number;
  readonly to: number;
}

interface Latest {
  epochMs: number;
  micros: number;
  given: number;
}

/**
 * Dates for what devices send without one. They are the time of receipt, and differ for each message of a device:
 * two equal measurements that arrive within one millisecond are two, and must not be taken for one delivered twice.
 *
 * They differ by microseconds, so that they do not run ahead of the clock, and begin anywhere in a millisecond, so that
 * what was dated before a restart, or by a clock since corrected, is hardly met again.
 */
export class ReceiptDates {
  private readonly latest = new Map<string, Latest>();
  private readonly width: number;

  /**
   * @param range replicas that take in messages of the same devices at once have different ones.
   * @param random from 0 to below 1.
   */
  constructor(
    private readonly range: MicroRange = { from: 0, to: MICROS },
    private readonly random: () => number = Math.random,
  ) {
    this.width = range.to - range.from;
  }

  /** @returns the time of receipt, or a moment after it, that no other message of the device has. */
  next(deviceId: string, receivedAt: Date): MicroDate {
    const now = receivedAt.getTime();
    const last = this.latest.get(deviceId);
    if (!last || last.epochMs < now) {
      if (this.latest.size >= MANY) this.forgetBefore(now);
      const fresh = { epochMs: now, micros: Math.floor(this.random() * this.width), given: 1 };
      this.latest.set(deviceId, fresh);
      return this.dateOf(fresh);
    }
    if (last.given === this.width) {
      last.epochMs += 1;
      last.given = 0;
    }
    last.micros = (last.micros + 1) % this.width;
    last.given += 1;
    return this.dateOf(last);
  }

  private dateOf({ epochMs, micros }: Latest): MicroDate {
    return new MicroDate(epochMs, this.range.from + micros);
  }

  private forgetBefore(now: number): void {
    for (const [deviceId, { epochMs }] of this.latest) if (epochMs < now) this.latest.delete(deviceId);
  }
}
