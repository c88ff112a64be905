/** Messages, pings and pongs a client may send at once, and then a minute. */
const BURST = 60;
const PER_SECOND = 1;

/**
 * How much one connection may still send: subscriptions are written down for ever, and pings are answered, so they are not
 * for free.
 */
export class MessageAllowance {
  private left = BURST;
  private since = performance.now();

  /** @returns whether one more may be taken. */
  take(): boolean {
    const now = performance.now();
    this.left = Math.min(BURST, this.left + ((now - this.since) / 1_000) * PER_SECOND);
    this.since = now;
    if (this.left < 1) return false;
    this.left -= 1;
    return true;
  }
}
