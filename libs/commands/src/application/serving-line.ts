interface Turn {
  readonly served: Promise<void>;
  readonly end: () => void;
}

/**
 * Devices that wait to be served, many at once, each of them by one round at a time: what comes in for a device while it
 * is served is seen to by a further round.
 */
export class ServingLine {
  private readonly waiting = new Map<string, Turn>();
  private readonly busy = new Set<string>();
  private readonly rounds = new Set<Promise<void>>();
  private closed = false;

  /**
   * @param size devices served together, at most.
   * @param concurrency rounds at once, at most.
   * @param serve never rejects.
   */
  constructor(
    private readonly size: number,
    private readonly concurrency: number,
    private readonly serve: (deviceIds: readonly string[]) => Promise<void>,
  ) {}

  /** Resolves when each of the devices has been through a round that begins after this call. */
  async add(deviceIds: Iterable<string>): Promise<void> {
    if (this.closed) return;
    const turns = new Set([...deviceIds].map((deviceId) => this.turnOf(deviceId)));
    this.beginRounds();
    await Promise.all([...turns].map(({ served }) => served));
  }

  /**
   * Begins a round of one device at once, for somebody who serves it on their own. Where there is much to do, all do better
   * together: then there is none, and one round is always left for many.
   * @returns ends it, once; null where somebody is at the device or anybody waits, or enough is under way.
   */
  begin(deviceId: string): (() => void) | null {
    if (this.closed || this.busy.has(deviceId) || this.waiting.size > 0) return null;
    if (this.rounds.size >= this.concurrency - 1) return null;
    this.busy.add(deviceId);
    let end = (): void => undefined;
    const round = new Promise<void>((resolve) => (end = resolve));
    this.rounds.add(round);
    return () => {
      this.busy.delete(deviceId);
      this.rounds.delete(round);
      end();
      this.beginRounds();
    };
  }

  /** Begins nothing more. Resolves when what has begun is done. */
  async close(): Promise<void> {
    this.closed = true;
    for (const { end } of this.waiting.values()) end();
    this.waiting.clear();
    await Promise.all(this.rounds);
  }

  private turnOf(deviceId: string): Turn {
    const waiting = this.waiting.get(deviceId);
    if (waiting) return waiting;
    let end = (): void => undefined;
    const served = new Promise<void>((resolve) => (end = resolve));
    const turn = { served, end };
    this.waiting.set(deviceId, turn);
    return turn;
  }

  private beginRounds(): void {
    while (this.rounds.size < this.concurrency) {
      const next = new Map<string, Turn>();
      for (const [deviceId, turn] of this.waiting) {
        if (next.size === this.size) break;
        if (!this.busy.has(deviceId)) next.set(deviceId, turn);
      }
      if (next.size === 0) return;
      for (const deviceId of next.keys()) {
        this.waiting.delete(deviceId);
        this.busy.add(deviceId);
      }
      const round = this.round(next);
      this.rounds.add(round);
      void round.then(() => {
        this.rounds.delete(round);
        this.beginRounds();
      });
    }
  }

  private async round(turns: ReadonlyMap<string, Turn>): Promise<void> {
    await this.serve([...turns.keys()]);
    for (const [deviceId, { end }] of turns) {
      this.busy.delete(deviceId);
      end();
    }
  }
}
