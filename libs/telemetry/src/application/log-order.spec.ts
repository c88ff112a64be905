import { StreamPosition } from '../domain/stream-position.js';
import type { LogRow, Stretch } from '../ports/stream-log.js';
import { inOrder } from './log-order.js';

/** Pages of two rows; the stretches that were opened are written down. */
class Log {
  readonly opened: number[] = [];

  /** @param runs when their rows were written, in the order of telling. */
  constructor(private readonly runs: ReadonlyMap<number, readonly number[]>) {}

  readonly read = ({ after: { epoch } }: Stretch, from: LogRow | null): Promise<readonly LogRow[]> => {
    if (!from) this.opened.push(epoch);
    const rows = (this.runs.get(epoch) ?? []).map((at, index): LogRow => ({
      epoch,
      at,
      place: index + 1,
      other: 0,
      entries: () => [],
    }));
    return Promise.resolve(rows.filter(({ place }) => place > (from?.place ?? 0)).slice(0, 2));
  };

  stretches(): Stretch[] {
    return [...this.runs].map(([epoch, [first = 0]]) => ({
      after: StreamPosition.startOf(epoch),
      until: null,
      begunAt: first,
    }));
  }
}

async function orderOf(log: Log): Promise<string[]> {
  const order: string[] = [];
  for await (const { stretch, row } of inOrder(log.stretches(), log.read))
    order.push(row ? `${row.epoch}.${row.place}` : `${stretch.after.epoch} over`);
  return order;
}

describe('the rows of several runs', () => {
  it('come by the time they were written, and those of a run in their own order', async () => {
    const log = new Log(
      new Map([
        [1, [10, 40, 30, 70]],
        [2, [20, 35, 60]],
      ]),
    );
    expect(await orderOf(log)).toEqual(['1.1', '2.1', '2.2', '1.2', '1.3', '2.3', '2 over', '1.4', '1 over']);
  });

  it('are not read before their time', async () => {
    const log = new Log(
      new Map([
        [1, [10, 20, 30]],
        [2, [40]],
        [3, []],
        [4, [50, 60]],
      ]),
    );
    const rows: string[] = [];
    for await (const { row } of inOrder(log.stretches(), log.read)) {
      if (row) rows.push(`${row.epoch}.${row.place}`);
      if (rows.length === 1) expect(log.opened).toEqual([1]);
    }
    expect(rows).toEqual(['1.1', '1.2', '1.3', '2.1', '4.1', '4.2']);
  });
});
