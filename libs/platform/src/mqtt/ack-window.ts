/** A message taken from the broker whose PUBACK is still owed. */
interface Owed {
  readonly packetId: number;
  readonly takenAt: number;
  settled: boolean;
}

/**
 * The PUBACKs owed on one connection. Work finishes in any order; the acknowledgements go out in the order
 * the messages came: [MQTT-4.6.0-2].
 */
export class AckWindow {
  private readonly owed: Owed[] = [];
  private head = 0;
  private closed = false;

  /** @param send writes one PUBACK on the connection this window belongs to. */
  constructor(private readonly send: (packetId: number) => void) {}

  /** Messages taken in and not yet acknowledged. */
  get size(): number {
    return this.owed.length - this.head;
  }

  /** How long the oldest of them has waited, in milliseconds; 0 when none waits. */
  get lag(): number {
    const oldest = this.owed[this.head];
    return oldest ? Date.now() - oldest.takenAt : 0;
  }

  /** Registers a message. @returns what to call once it is safe; calling it again does nothing. */
  take(packetId: number): () => void {
    const entry: Owed = { packetId, takenAt: Date.now(), settled: false };
    this.owed.push(entry);
    return () => {
      entry.settled = true;
      this.flush();
    };
  }

  /**
   * The connection is gone, and its packet ids with it: they may name other messages on the next one,
   * so nothing of this window may be sent any more. The broker delivers the messages again.
   */
  close(): void {
    this.closed = true;
    this.owed.length = 0;
    this.head = 0;
  }

  private flush(): void {
    if (this.closed) return;
    for (let entry = this.owed[this.head]; entry?.settled; entry = this.owed[this.head]) {
      this.send(entry.packetId);
      this.head += 1;
    }
    if (this.head > 1_024 && this.head * 2 > this.owed.length) {
      this.owed.splice(0, this.head);
      this.head = 0;
    }
  }
}
