/** How a {@link Batcher} forms its batches. */
export interface BatchLimits {
  /** Items in a batch, at most. */
  readonly size: number;
  /** Milliseconds an item waits for others while nothing else is under way. */
  readonly age: number;
  /** Batches under way at once, those aside that let the next one start. */
  readonly concurrency: number;
}

/**
 * Collects what arrives one by one and works on it together. A batch starts when it is full, or when its first
 * item has waited `age`; while `concurrency` batches are under way the next one grows instead.
 */
export class Batcher<Item> {
  private waiting: Item[] = [];
  private timer: NodeJS.Timeout | undefined;
  private running = 0;
  private inWork = 0;
  private idle: (() => void)[] = [];

  /**
   * @param work settles when the batch is done with; it must not reject. It calls `next` when another batch may start
   * already.
   */
  constructor(
    private readonly limits: BatchLimits,
    private readonly work: (batch: readonly Item[], next: () => void) => Promise<void>,
  ) {}

  /** Items that wait or are under way. */
  get pending(): number {
    return this.waiting.length + this.inWork;
  }

  add(items: readonly Item[]): void {
    for (const item of items) this.waiting.push(item);
    this.startFullBatches();
    if (this.waiting.length > 0 && this.running < this.limits.concurrency && !this.timer) {
      this.timer = setTimeout(() => {
        this.timer = undefined;
        this.startNext();
      }, this.limits.age);
    }
  }

  /** Starts what waits at once. Resolves when nothing waits or is under way. */
  async drain(): Promise<void> {
    this.startNext();
    if (this.pending === 0) return;
    await new Promise<void>((resolve) => this.idle.push(resolve));
  }

  private startFullBatches(): void {
    while (this.waiting.length >= this.limits.size && this.running < this.limits.concurrency)
      this.startNext();
  }

  private startNext(): void {
    if (this.waiting.length === 0 || this.running >= this.limits.concurrency) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    const batch = this.waiting.splice(0, this.limits.size);
    this.running += 1;
    this.inWork += batch.length;
    let isUnderWay = true;
    const next = (): void => {
      if (!isUnderWay) return;
      isUnderWay = false;
      this.running -= 1;
      // Those that waited for a place have waited long enough.
      this.startNext();
    };
    void this.work(batch, next).finally(() => {
      this.inWork -= batch.length;
      next();
      if (this.pending === 0) this.idle.splice(0).forEach((resolve) => resolve());
    });
  }
}
