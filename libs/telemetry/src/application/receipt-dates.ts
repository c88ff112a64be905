/** Devices remembered before those are forgotten whose dates have passed. */
const MANY = 10_000;

/**
 * Dates for what devices send without one. They are the time of receipt, and differ for each message of a device:
 * two equal measurements that arrive within one millisecond are two, and must not be taken for one delivered twice.
 */
export class ReceiptDates {
  private readonly latest = new Map<string, number>();

  /** @returns the time of receipt, or the first millisecond after it that no other message of the device has. */
  next(deviceId: string, receivedAt: Date): Date {
    const now = receivedAt.getTime();
    const date = Math.max(now, (this.latest.get(deviceId) ?? 0) + 1);
    if (this.latest.size > MANY) this.forgetBefore(now);
    this.latest.set(deviceId, date);
    return new Date(date);
  }

  private forgetBefore(now: number): void {
    for (const [deviceId, date] of this.latest) if (date < now) this.latest.delete(deviceId);
  }
}
