/** How a {@link Batcher} forms its batches. */
export interface BatchLimits {
  /** Items in a batch, at most. */
  readonly size: number;
  /** Milliseconds an item waits for others while nothing else is under way. */
  readonly age: number;
  /** Batches under way at once, those aside that let the next one start. */
  readonly concurrency: number;
  /** What the items of a batch weigh together, at most; one that alone weighs more is a batch of its own. */
  readonly weight?: number;
}

/**
 * Collects what arrives one by one and works on it together. A batch starts when it is full, by count or by weight, or when its first
 * item has waited `age`; while `concurrency` batches are under way the next one grows instead.
 */
export class Batcher<Item> {
  private waiting: Item[] = [];
  private waitingWeight = 0;
  private timer: NodeJS.Timeout | undefined;
  private running = 0;
  private inWork = 0;
  private idle: (() => void)[] = [];

  /**
   * @param work settles when the batch is done with; it must not reject. It calls `next` when another batch may start
   * already.
   * @param weigh an item's weight, the same at each call.
   */
  constructor(
    private readonly limits: BatchLimits,
    private readonly work: (batch: readonly Item[], next: () => void) => Promise<void>,
    private readonly weigh: (item: Item) => number = () => 0,
  ) {}

  /** Items that wait or are under way. */
  get pending(): number {
    return this.waiting.length + this.inWork;
  }

  add(items: readonly Item[]): void {
    for (const item of items) {
      this.waiting.push(item);
      this.waitingWeight += this.weigh(item);
    }
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
    const { size, weight = Infinity, concurrency } = this.limits;
    while ((this.waiting.length >= size || this.waitingWeight >= weight) && this.running < concurrency)
      this.startNext();
  }

  /** How many of those that wait make the next batch; takes their weight off. */
  private nextSize(): number {
    const { size, weight = Infinity } = this.limits;
    let count = 0;
    let taken = 0;
    for (const item of this.waiting) {
      const more = this.weigh(item);
      if (count === size || (count > 0 && taken + more > weight)) break;
      count += 1;
      taken += more;
    }
    this.waitingWeight -= taken;
    return count;
  }

  private startNext(): void {
    if (this.waiting.length === 0 || this.running >= this.limits.concurrency) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    const batch = this.waiting.splice(0, this.nextSize());
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
