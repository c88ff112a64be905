const BEAT_MS = 1_000;

/** Both clocks: the monotonic one of Linux rests while a machine is suspended, the other may be set back meanwhile. */
const clocks = (): { readonly steady: number; readonly wall: number } => ({
  steady: performance.now(),
  wall: Date.now(),
});

/**
 * Notices that the process has stood still: stopped by a signal, or with the machine it runs on. What it then finds in its
 * connections is of a time when others may have taken over.
 */
export class Standstill {
  private timer: NodeJS.Timeout | undefined;
  private last = clocks();

  /**
   * @param limitMs a shorter pause is none.
   * @param onFound hears of each, before anything else where that is possible.
   */
  constructor(
    private readonly limitMs: number,
    private readonly onFound: () => void,
  ) {}

  start(): void {
    this.last = clocks();
    this.timer = setInterval(() => this.check(), BEAT_MS).unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** To be called before something is made of what comes in from outside: it may be read before the next beat. */
  check(): void {
    const now = clocks();
    const { steady, wall } = this.last;
    this.last = now;
    if (Math.max(now.steady - steady, now.wall - wall) >= this.limitMs) this.onFound();
  }
}
