const RETRY_MS = 200;

/**
 * Work that nobody waits for, and whose failures therefore nobody is told but the log: each problem once, until something
 * has gone well.
 */
export class BackgroundWork {
  private readonly stopping = new AbortController();
  private lastProblem = '';

  /** @param complain hears of a problem that is not the last one again; in words that quote nothing of what is stored. */
  constructor(private readonly complain: (problem: string) => void) {}

  /** True once nothing is to be begun any more. */
  get isStopping(): boolean {
    return this.stopping.signal.aborted;
  }

  /** What is insisted on is tried no more, and fails. */
  stop(): void {
    this.stopping.abort();
  }

  /** The next problem is a new one. */
  wentWell(): void {
    this.lastProblem = '';
  }

  /**
   * Repeats work every 200 ms until it succeeds.
   * @param matters whether it is still of use.
   * @throws what it said last, once there is to be no more or it is of no use.
   */
  async insist<T>(work: () => Promise<T>, matters: () => boolean = () => true): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (this.isStopping || !matters()) throw error;
        this.tell(error);
      }
      await this.pause();
    }
  }

  /** Tries work once. Never rejects. */
  async attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.tell(error);
    }
  }

  /** Ends early once there is to be no more. */
  private async pause(): Promise<void> {
    const { signal } = this.stopping;
    await new Promise<void>((resolve) => {
      const over = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', over);
        resolve();
      };
      const timer = setTimeout(over, RETRY_MS);
      signal.addEventListener('abort', over);
    });
  }

  private tell(error: unknown): void {
    const problem = problemOf(error);
    if (problem !== this.lastProblem) this.complain(problem);
    this.lastProblem = problem;
  }
}

/** A code is the database's or the network's, whose messages may quote what was to be stored; so may those of the language. */
function problemOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error';
  if ('code' in error && typeof error.code === 'string') return error.code;
  return error.name === 'Error' ? error.message : error.name;
}
