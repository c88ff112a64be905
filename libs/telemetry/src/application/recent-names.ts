/** Names of events that are few: half of them are forgotten at a time. */
const MOST = 10_000;

/** Knows the names it has met lately, between 10,000 and 20,000 of them. */
export class RecentNames {
  private newer = new Set<string>();
  private older = new Set<string>();

  /** @returns false when it was met before. */
  add(name: string): boolean {
    if (this.newer.has(name) || this.older.has(name)) return false;
    this.newer.add(name);
    if (this.newer.size >= MOST) {
      this.older = this.newer;
      this.newer = new Set();
    }
    return true;
  }
}
