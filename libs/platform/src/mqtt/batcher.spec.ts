import fc from 'fast-check';
import { Batcher, type BatchLimits } from './batcher.js';

describe('Batcher', () => {
  let started: (readonly number[])[];
  let finish: (() => void)[];

  function batcher(limits: BatchLimits): Batcher<number> {
    return new Batcher<number>(
      limits,
      (batch) => {
        started.push(batch);
        return new Promise((resolve) => finish.push(resolve));
      },
      weightOf,
    );
  }

  /** Each tenth item is a heavy one. */
  const weightOf = (item: number): number => (item % 10 === 9 ? 7 : 1);
  const weightOfAll = (batch: readonly number[]): number =>
    batch.reduce((sum, item) => sum + weightOf(item), 0);

  /** Ends the oldest batch under way. */
  async function finishOne(): Promise<void> {
    finish.shift()?.();
    await jest.advanceTimersByTimeAsync(0);
  }

  beforeEach(() => {
    jest.useFakeTimers();
    started = [];
    finish = [];
  });

  afterEach(() => jest.useRealTimers());

  it('starts a full batch at once, and the rest when it has waited', () => {
    const items = batcher({ size: 2, age: 5, concurrency: 3 });
    items.add([1, 2, 3]);
    expect(started).toEqual([[1, 2]]);
    jest.advanceTimersByTime(4);
    expect(started).toHaveLength(1);
    jest.advanceTimersByTime(1);
    expect(started).toEqual([[1, 2], [3]]);
  });

  it('ends a batch before it weighs too much, and starts it as soon as that much waits', async () => {
    const items = batcher({ size: 100, age: 5, concurrency: 1, weight: 5 });
    items.add([1, 2, 3, 4]);
    expect(started).toEqual([]);
    items.add([5, 6, 9, 11]);
    expect(started).toEqual([[1, 2, 3, 4, 5]]);
    await finishOne();
    expect(started.slice(1)).toEqual([[6]]);
    await finishOne();
    expect(started.slice(2)).toEqual([[9]]);
    await finishOne();
    expect(started.slice(3)).toEqual([[11]]);
    await finishOne();
    items.add([12, 13]);
    expect(started).toHaveLength(4);
  });

  it('counts the age from the first that waits', () => {
    const items = batcher({ size: 10, age: 5, concurrency: 1 });
    items.add([1]);
    jest.advanceTimersByTime(3);
    items.add([2]);
    jest.advanceTimersByTime(2);
    expect(started).toEqual([[1, 2]]);
  });

  it('lets the next batch grow while as many as allowed are under way', async () => {
    const items = batcher({ size: 3, age: 5, concurrency: 1 });
    items.add([1, 2, 3]);
    items.add([4]);
    jest.advanceTimersByTime(100);
    items.add([5]);
    expect(started).toEqual([[1, 2, 3]]);
    await finishOne();
    expect(started).toEqual([
      [1, 2, 3],
      [4, 5],
    ]);
  });

  it('counts what waits and what is under way', async () => {
    const items = batcher({ size: 2, age: 5, concurrency: 1 });
    items.add([1, 2, 3]);
    expect(items.pending).toBe(3);
    await finishOne();
    expect(items.pending).toBe(1);
    await finishOne();
    expect(items.pending).toBe(0);
  });

  it('drains: starts what waits without waiting, and resolves when nothing is left', async () => {
    const items = batcher({ size: 2, age: 60_000, concurrency: 1 });
    items.add([1, 2, 3]);
    let drained = false;
    const draining = items.drain().then(() => (drained = true));
    expect(started).toEqual([[1, 2]]);
    await finishOne();
    expect(started).toEqual([[1, 2], [3]]);
    expect(drained).toBe(false);
    await finishOne();
    await draining;
  });

  it('starts another batch when the one under way lets it, and is not idle before both are done', async () => {
    const begun: number[] = [];
    const ends: (() => void)[] = [];
    let letNext: () => void = () => undefined;
    const items = new Batcher<number>({ size: 1, age: 5, concurrency: 1 }, (batch, next) => {
      begun.push(...batch);
      letNext = next;
      return new Promise((resolve) => ends.push(resolve));
    });
    items.add([1, 2, 3]);
    expect(begun).toEqual([1]);
    const first = letNext;
    first();
    first();
    expect(begun).toEqual([1, 2]);
    let drained = false;
    const draining = items.drain().then(() => (drained = true));
    ends[0]?.();
    await Promise.resolve();
    expect({ begun, drained, pending: items.pending }).toEqual({ begun: [1, 2], drained: false, pending: 2 });
    ends[1]?.();
    await jest.advanceTimersByTimeAsync(0);
    expect(begun).toEqual([1, 2, 3]);
    ends[2]?.();
    await draining;
  });

  it('drains at once when there is nothing', async () => {
    await expect(batcher({ size: 2, age: 5, concurrency: 1 }).drain()).resolves.toBeUndefined();
  });

  it('hands over every item once, in order, within its limits, whatever the rhythm', async () => {
    const step = fc.oneof(
      fc.record({ add: fc.integer({ min: 0, max: 12 }) }),
      fc.record({ wait: fc.integer({ min: 0, max: 7 }) }),
      fc.constant({ finish: true }),
    );
    const limits = fc.record({
      size: fc.integer({ min: 1, max: 5 }),
      age: fc.constant(5),
      concurrency: fc.integer({ min: 1, max: 3 }),
      weight: fc.integer({ min: 1, max: 9 }),
    });
    await fc.assert(
      fc.asyncProperty(limits, fc.array(step, { maxLength: 40 }), async (limit, steps) => {
        started = [];
        finish = [];
        const items = batcher(limit);
        let added = 0;
        for (const next of steps) {
          if ('add' in next) items.add(Array.from({ length: next.add }, () => added++));
          else if ('wait' in next) await jest.advanceTimersByTimeAsync(next.wait);
          else await finishOne();
          expect(finish.length).toBeLessThanOrEqual(limit.concurrency);
        }
        let drained = false;
        void items.drain().then(() => (drained = true));
        while (finish.length > 0) {
          expect(finish.length).toBeLessThanOrEqual(limit.concurrency);
          await finishOne();
        }
        await jest.advanceTimersByTimeAsync(0);
        expect(drained).toBe(true);
        expect(started.flat()).toEqual(Array.from({ length: added }, (_, index) => index));
        expect(Math.max(0, ...started.map((batch) => batch.length))).toBeLessThanOrEqual(limit.size);
        for (const batch of started)
          if (batch.length > 1) expect(weightOfAll(batch)).toBeLessThanOrEqual(limit.weight);
      }),
    );
  });
});
