/** A message taken from the broker and not yet seen through. */
export interface Owed {
  /** The packet that answers it; null: QoS 0 has no answer. */
  readonly reply: number | null;
  readonly takenAt: number;
  /** Hears when this one is settled, and all that came before it. */
  readonly onReached: (() => void) | undefined;
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

  /** Its connection has ended. */
  get isClosed(): boolean {
    return this.closed;
  }

  /** Messages taken in and not yet seen through. */
  get size(): number {
    return this.owed.length - this.head;
  }

  /** How long the oldest of them has waited, in milliseconds; 0 when none waits. */
  get lag(): number {
    const oldest = this.owed[this.head];
    return oldest ? Date.now() - oldest.takenAt : 0;
  }

  /**
   * Registers a message.
   * @param reply the packet that answers it; null where none does.
   * @param onReached hears when it is settled and all before it are, unless the connection has ended by then.
   * @returns what to {@link settle} once it is safe.
   */
  take(reply: number | null, takenAt: number, onReached?: () => void): Owed {
    const entry: Owed = { reply, takenAt, onReached, settled: false };
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
    const reached: (() => void)[] = [];
    for (let entry = this.owed[this.head]; entry?.settled; entry = this.owed[this.head]) {
      if (entry.reply !== null) due.push(entry.reply);
      if (entry.onReached) reached.push(entry.onReached);
      this.head += 1;
    }
    if (due.length > 0) this.send(due);
    for (const tell of reached) tell();
    if (this.head > 1_024 && this.head * 2 > this.owed.length) {
      this.owed = this.owed.slice(this.head);
      this.head = 0;
    }
  }
}
