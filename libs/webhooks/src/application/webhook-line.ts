/** Deliveries of one device to one webhook, of one claim, in their order. */
export type LaneWork = () => Promise<void>;

/**
 * The work of one webhook: lanes are taken up when there is room for them, so many at once, and looked for again as long as
 * there are any.
 */
export class WebhookLine {
  private readonly waiting: LaneWork[] = [];
  private running = 0;
  private looking = false;
  private lookAgain = false;
  private closed = false;
  private idle: (() => void) | undefined;

  /**
   * @param concurrency lanes at once, at most.
   * @param look takes up what is due; empty: nothing is. Never rejects.
   */
  constructor(
    private readonly concurrency: number,
    private readonly look: () => Promise<readonly LaneWork[]>,
  ) {}

  /** Whether it has nothing in hand. */
  get isIdle(): boolean {
    return this.running === 0 && !this.looking && this.waiting.length === 0;
  }

  /** There may be something to do. */
  wake(): void {
    this.lookAgain = true;
    this.go();
  }

  /** Takes nothing more up. Resolves when what has begun is done. */
  async close(): Promise<void> {
    this.closed = true;
    this.lookAgain = false;
    if (this.isIdle) return;
    await new Promise<void>((resolve) => (this.idle = resolve));
  }

  private go(): void {
    while (this.running < this.concurrency) {
      const work = this.waiting.shift();
      if (!work) break;
      void this.run(work);
    }
    if (this.lookAgain && !this.looking && !this.closed && this.waiting.length === 0) void this.lookNow();
    if (this.isIdle) this.idle?.();
  }

  private async run(work: LaneWork): Promise<void> {
    this.running += 1;
    await work();
    this.running -= 1;
    // The lane may have more, and so may others.
    this.lookAgain ||= !this.closed;
    this.go();
  }

  private async lookNow(): Promise<void> {
    this.looking = true;
    this.lookAgain = false;
    this.waiting.push(...(await this.look()));
    this.looking = false;
    this.go();
  }
}
