import type { LogRow, Stretch } from '../ports/stream-log.js';

/** A row of a stretch; null: that was its last. */
export interface Placed {
  readonly stretch: Stretch;
  readonly row: LogRow | null;
}

type Read = (stretch: Stretch, from: LogRow | null) => Promise<readonly LogRow[]>;

/**
 * The rows of several stretches: each stretch's in their own order, and otherwise by the time they were written. What a
 * device told one replica and then, after a change, another comes in that order. A stretch is opened only when its time
 * has come, since there may be many that lie behind each other.
 * @param stretches in the order of their runs.
 */
export async function* inOrder(stretches: readonly Stretch[], read: Read): AsyncGenerator<Placed> {
  const waiting = [...stretches];
  const open: Opened[] = [];
  for (;;) {
    const first = earliest(open);
    const next = waiting[0];
    if (next && (!first || next.begunAt <= first.at)) {
      waiting.shift();
      const opened = new Opened(next, read);
      if (await opened.fill()) open.push(opened);
      else yield { stretch: next, row: null };
      continue;
    }
    if (!first) return;
    yield { stretch: first.stretch, row: first.take() };
    if (await first.fill()) continue;
    open.splice(open.indexOf(first), 1);
    yield { stretch: first.stretch, row: null };
  }
}

class Opened {
  private rows: readonly LogRow[] = [];
  private next = 0;
  private last: LogRow | null = null;
  /** When its next row was written, or one before it: some are written sooner than what is told before them. */
  at = -Infinity;

  constructor(
    readonly stretch: Stretch,
    private readonly read: Read,
  ) {}

  /** Sees to it that there is a next row. @returns false when there is none. */
  async fill(): Promise<boolean> {
    if (this.next === this.rows.length) {
      this.rows = await this.read(this.stretch, this.last);
      this.next = 0;
    }
    const row = this.rows[this.next];
    if (row) this.at = Math.max(this.at, row.at);
    return row !== undefined;
  }

  take(): LogRow {
    const row = this.rows[this.next] as LogRow;
    this.next += 1;
    this.last = row;
    return row;
  }
}

function earliest(open: readonly Opened[]): Opened | undefined {
  let first: Opened | undefined;
  for (const each of open) if (!first || each.at < first.at) first = each;
  return first;
}
