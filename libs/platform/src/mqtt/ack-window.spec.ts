import fc from 'fast-check';
import { AckWindow, type Owed } from './ack-window.js';

describe('AckWindow', () => {
  let acknowledged: number[];
  let writes: number;
  let window: AckWindow;

  beforeEach(() => {
    acknowledged = [];
    writes = 0;
    window = new AckWindow((packetIds) => {
      acknowledged.push(...packetIds);
      writes += 1;
    });
  });

  afterEach(() => jest.useRealTimers());

  const take = (packetId: number): Owed => window.take(packetId, Date.now());
  const settle = (...entries: readonly Owed[]): void => {
    for (const entry of entries) window.settle(entry);
    window.flush();
  };

  it('holds an acknowledgement back until those before it are due', () => {
    const [first, second, third] = [take(1), take(2), take(3)];
    settle(third, second);
    expect(acknowledged).toEqual([]);
    expect(window.size).toBe(3);
    settle(first);
    expect(acknowledged).toEqual([1, 2, 3]);
    expect(window.size).toBe(0);
  });

  it('sends what is settled in one go in one write, by itself', async () => {
    for (const entry of [take(1), take(2), take(3)]) window.settle(entry);
    expect(writes).toBe(0);
    await Promise.resolve();
    expect(acknowledged).toEqual([1, 2, 3]);
    expect(writes).toBe(1);
  });

  it('acknowledges in the order of arrival, each once, whatever the order of settling', () => {
    // Each step takes a message in or settles one that is open; packet ids come round again, as on a long connection.
    const steps = fc.array(fc.tuple(fc.boolean(), fc.nat()), { maxLength: 200 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 4_000 }), (moves, packetIds) => {
        const sent: number[] = [];
        const acks = new AckWindow((due) => sent.push(...due));
        const open: Owed[] = [];
        let taken = 0;
        for (const [arrives, pick] of moves) {
          if (arrives || open.length === 0) open.push(acks.take((taken++ % packetIds) + 1, 0));
          else for (const entry of open.splice(pick % open.length, 1)) acks.settle(entry);
          if (pick % 3 === 0) acks.flush();
        }
        acks.flush();
        expect(acks.size).toBe(taken - sent.length);
        for (const entry of open.reverse()) acks.settle(entry);
        acks.flush();
        expect(sent).toEqual(Array.from({ length: taken }, (_, index) => (index % packetIds) + 1));
        expect(acks.size).toBe(0);
      }),
    );
  });

  it('keeps the order while it forgets thousands that are done with', () => {
    const total = 10_000;
    const entries = Array.from({ length: total }, (_, packetId) => take(packetId));
    for (let index = 0; index < total; index += 2) settle(...entries.slice(index, index + 2).reverse());
    expect(acknowledged).toEqual(Array.from({ length: total }, (_, packetId) => packetId));
  });

  it('takes a repeated acknowledgement for none, also when the packet id is in use again', () => {
    const first = take(7);
    settle(first);
    const again = take(7);
    settle(first);
    expect(acknowledged).toEqual([7]);
    settle(again);
    expect(acknowledged).toEqual([7, 7]);
  });

  it('sends nothing once the connection is closed', () => {
    const [first, second] = [take(1), take(2)];
    settle(second);
    window.settle(first);
    window.close();
    window.flush();
    settle(take(3));
    expect(acknowledged).toEqual([]);
    expect(window.size).toBe(0);
    expect(window.lag).toBe(0);
  });

  it('counts the lag from the oldest that still waits', () => {
    jest.useFakeTimers({ now: 10_000 });
    const first = take(1);
    jest.advanceTimersByTime(300);
    const second = take(2);
    jest.advanceTimersByTime(200);
    expect(window.lag).toBe(500);
    settle(first);
    expect(window.lag).toBe(200);
    settle(second);
    expect(window.lag).toBe(0);
  });

  it('waits for what has no answer, too, and answers it with nothing', () => {
    const silent = window.take(null, Date.now());
    const second = take(2);
    settle(second);
    expect([acknowledged, window.size]).toEqual([[], 2]);
    settle(silent);
    expect([acknowledged, window.size]).toEqual([[2], 0]);
  });

  it('tells when all before a message is settled, and not after the connection has ended', () => {
    let reached = 0;
    const first = take(1);
    const mark = window.take(2, Date.now(), () => (reached += 1));
    settle(mark);
    expect(reached).toBe(0);
    settle(first);
    expect([reached, acknowledged]).toEqual([1, [1, 2]]);
    const last = window.take(3, Date.now(), () => (reached += 1));
    window.close();
    settle(last);
    expect(reached).toBe(1);
  });
});
