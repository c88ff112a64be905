import { ServingLine } from './serving-line.js';

/** A line whose rounds end when told to. */
function stage(size: number, concurrency: number) {
  const rounds: {
    readonly deviceIds: readonly string[];
    readonly end: () => void;
  }[] = [];
  const line = new ServingLine(
    size,
    concurrency,
    (deviceIds) => new Promise((resolve) => rounds.push({ deviceIds, end: resolve })),
  );
  return { line, rounds, served: () => rounds.map(({ deviceIds }) => deviceIds) };
}

/** Until everything has happened that is due already. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('ServingLine', () => {
  it('serves many together, in rounds of a size, so many at once', async () => {
    const { line, rounds, served } = stage(2, 2);
    const all = line.add(['a', 'b', 'c', 'd', 'e']);
    expect(served()).toEqual([
      ['a', 'b'],
      ['c', 'd'],
    ]);
    rounds[1]?.end();
    await settle();
    expect(served()[2]).toEqual(['e']);
    rounds[0]?.end();
    rounds[2]?.end();
    await all;
  });

  it('serves a device in one round at a time, and once more for what came in meanwhile', async () => {
    const { line, rounds, served } = stage(10, 4);
    const first = line.add(['a']);
    let done = false;
    const second = Promise.all([line.add(['a', 'b']), line.add(['a'])]).then(() => (done = true));
    expect(served()).toEqual([['a'], ['b']]);
    rounds[1]?.end();
    rounds[0]?.end();
    await first;
    await settle();
    expect(served()).toEqual([['a'], ['b'], ['a']]);
    expect(done).toBe(false);
    rounds[2]?.end();
    await second;
  });

  it('lets somebody serve a device on their own, where nobody is at it, nobody waits and there is room', async () => {
    const { line, rounds, served } = stage(1, 2);
    const end = line.begin('a');
    expect(line.begin('a')).toBeNull();
    // The other round is for many.
    expect(line.begin('b')).toBeNull();
    const again = line.add(['a']);
    const others = line.add(['b', 'c']);
    expect(served()).toEqual([['b']]);
    rounds[0]?.end();
    await settle();
    expect(served()).toEqual([['b'], ['c']]);
    end?.();
    expect(served()).toEqual([['b'], ['c'], ['a']]);
    rounds[1]?.end();
    rounds[2]?.end();
    await Promise.all([again, others]);

    const last = line.begin('a');
    let closed = false;
    const closing = line.close().then(() => (closed = true));
    await settle();
    expect({ closed, begun: line.begin('b') }).toEqual({ closed: false, begun: null });
    last?.();
    await closing;
  });

  it('begins nothing more once closed, and waits for what has begun', async () => {
    const { line, rounds, served } = stage(1, 1);
    const all = line.add(['a', 'b']);
    let closed = false;
    const closing = line.close().then(() => (closed = true));
    await line.add(['c']);
    await settle();
    expect(closed).toBe(false);
    rounds[0]?.end();
    await Promise.all([all, closing]);
    expect(served()).toEqual([['a']]);
  });
});
