/** Devices remembered at most; some 150 bytes each. */
const MAX_DEVICES = 10_000;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;

interface Wait {
  /** By `performance.now()`. */
  readonly due: number;
  readonly ms: number;
}

/**
 * Devices whose commands are kept back because nobody listened, and when each is to be tried again without having been
 * heard of: after one second, and twice as long each further time, up to 30. Of too many the first are forgotten, and are
 * tried as often as any device with something queued.
 */
export class KeptBack {
  private readonly waits = new Map<string, Wait>();

  get size(): number {
    return this.waits.size;
  }

  get deviceIds(): readonly string[] {
    return [...this.waits.keys()];
  }

  has(deviceId: string): boolean {
    return this.waits.has(deviceId);
  }

  /** Nobody has listened for this device's commands just now. Tried before its time, it waits no longer for that. */
  keep(deviceId: string, now: number): void {
    const before = this.waits.get(deviceId);
    if (before && now < before.due) return;
    const ms = before ? Math.min(2 * before.ms, LONGEST_WAIT_MS) : FIRST_WAIT_MS;
    const [oldest] = this.waits.keys();
    if (!before && oldest !== undefined && this.waits.size >= MAX_DEVICES) this.waits.delete(oldest);
    this.waits.set(deviceId, { due: now + ms, ms });
  }

  /** Those to be tried again. */
  due(now: number): readonly string[] {
    return [...this.waits].filter(([, wait]) => wait.due <= now).map(([deviceId]) => deviceId);
  }

  /** Somebody has listened, or there is nothing to be kept back. */
  forget(deviceId: string): void {
    this.waits.delete(deviceId);
  }

  clear(): void {
    this.waits.clear();
  }
}
