/** How much may be in hand. */
export interface IntakeLimits {
  readonly messages: number;
  readonly bytes: number;
}

/**
 * Counts what has been taken in and not yet seen through, over all connections, and says when to stop reading and when
 * to go on. MQTT 5's receive maximum does the same on the broker's side, but not every broker keeps to it (Mosquitto
 * before 2.0.13 sends up to 2,000 more for each acknowledgement while it drains a queue), 3.1.1 has none, and neither
 * counts bytes: with this, memory stays flat however far the broker is ahead.
 */
export class IntakeGate {
  private count = 0;
  private size = 0;
  private closed = false;

  /**
   * @param onClose and @param onOpen stop and resume the reading. What arrives in between, out of what had been read
   * already, is counted all the same.
   */
  constructor(
    private readonly limits: IntakeLimits,
    private readonly onClose: () => void,
    private readonly onOpen: () => void,
  ) {}

  /** Messages in hand. */
  get messages(): number {
    return this.count;
  }

  /** A message of `bytes` has been taken in. */
  enter(bytes: number): void {
    this.count += 1;
    this.size += bytes;
    if (this.closed || (this.count <= this.limits.messages && this.size <= this.limits.bytes)) return;
    this.closed = true;
    this.onClose();
  }

  /** A message of `bytes` is done with. Reading goes on at three quarters of the limits, so that it does not flutter. */
  leave(bytes: number): void {
    this.count -= 1;
    this.size -= bytes;
    if (!this.closed || this.count > this.limits.messages * 0.75 || this.size > this.limits.bytes * 0.75)
      return;
    this.closed = false;
    this.onOpen();
  }
}
