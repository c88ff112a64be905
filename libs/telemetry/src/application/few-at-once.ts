/** So many at once; the others wait, in the order in which they came. */
export class FewAtOnce {
  private readonly waiting: (() => void)[] = [];

  constructor(private free: number) {}

  /** Whether somebody waits. */
  get isWanted(): boolean {
    return this.waiting.length > 0;
  }

  /** Resolves when there is a place; it is to be given back ({@link leave}). */
  async enter(): Promise<void> {
    if (this.free > 0) this.free -= 1;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  leave(): void {
    const next = this.waiting.shift();
    if (next) next();
    else this.free += 1;
  }
}
