const FIRST_PAUSE = 4;
const LONGEST_PAUSE = 256;

/**
 * Decides whether the fast way is worth trying that must be undone when a reading turns out to be there already.
 * After a failure it is left alone for some batches, twice as many each time; a device that repeats itself for ever
 * then costs a wasted attempt in hundreds.
 */
export class Optimism {
  private pause = FIRST_PAUSE;
  private wait = 0;

  /** Whether to try now. */
  ask(): boolean {
    if (this.wait === 0) return true;
    this.wait -= 1;
    return false;
  }

  wasRight(): void {
    this.pause = FIRST_PAUSE;
  }

  wasWrong(): void {
    this.wait = this.pause;
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
  }
}
