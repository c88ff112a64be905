/** A message taken from the broker whose answer is still owed. */
export interface Owed {
  /** The packet that answers it. */
  readonly reply: number;
  readonly takenAt: number;
  settled: boolean;
}

/**
 * The PUBACKs (at QoS 2, PUBRECs) owed on one connection. Work finishes in any order; the acknowledgements go out in the order
 * the messages came: [MQTT-4.6.0-2], [MQTT-4.6.0-3]. What is settled in one go goes out in one write.
 */
export class AckWindow {
  private owed: Owed[] = [];
  private head = 0;
  private closed = false;
  private flushing = false;

  /** @param send writes answers on the connection this window belongs to. */
  constructor(private readonly send: (replies: readonly number[]) => void) {}

  /** Messages taken in and not yet acknowledged. */
  get size(): number {
    return this.owed.length - this.head;
  }

  /** How long the oldest of them has waited, in milliseconds; 0 when none waits. */
  get lag(): number {
    const oldest = this.owed[this.head];
    return oldest ? Date.now() - oldest.takenAt : 0;
  }

  /** Registers a message. @returns what to {@link settle} once it is safe. */
  take(reply: number, takenAt: number): Owed {
    const entry: Owed = { reply, takenAt, settled: false };
    if (!this.closed) this.owed.push(entry);
    return entry;
  }

  /** A message is safe; settling it again does nothing. */
  settle(entry: Owed): void {
    entry.settled = true;
    if (this.flushing || this.closed) return;
    this.flushing = true;
    queueMicrotask(() => this.flush());
  }

  /**
   * The connection is gone, and its packet ids with it: they may name other messages on the next one,
   * so nothing of this window may be sent any more. The broker delivers the messages again.
   */
  close(): void {
    this.closed = true;
    this.owed = [];
    this.head = 0;
  }

  /** Sends what is due now rather than at the end of this turn. */
  flush(): void {
    this.flushing = false;
    const due: number[] = [];
    for (let entry = this.owed[this.head]; entry?.settled; entry = this.owed[this.head]) {
      due.push(entry.reply);
      this.head += 1;
    }
    if (due.length > 0) this.send(due);
    if (this.head > 1_024 && this.head * 2 > this.owed.length) {
      this.owed = this.owed.slice(this.head);
      this.head = 0;
    }
  }
}
