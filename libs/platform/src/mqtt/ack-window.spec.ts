import fc from 'fast-check';
import { AckWindow } from './ack-window.js';

describe('AckWindow', () => {
  let acknowledged: number[];
  let window: AckWindow;

  beforeEach(() => {
    acknowledged = [];
    window = new AckWindow((packetId) => acknowledged.push(packetId));
  });

  afterEach(() => jest.useRealTimers());

  it('holds an acknowledgement back until those before it are due', () => {
    const [first, second, third] = [1, 2, 3].map((packetId) => window.take(packetId));
    third?.();
    second?.();
    expect(acknowledged).toEqual([]);
    expect(window.size).toBe(3);
    first?.();
    expect(acknowledged).toEqual([1, 2, 3]);
    expect(window.size).toBe(0);
  });

  it('acknowledges in the order of arrival, each once, whatever the order of settling', () => {
    // Each step takes a message in or settles one that is open; packet ids come round again, as on a long connection.
    const steps = fc.array(fc.tuple(fc.boolean(), fc.nat()), { maxLength: 200 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 4_000 }), (moves, packetIds) => {
        const sent: number[] = [];
        const acks = new AckWindow((packetId) => sent.push(packetId));
        const open: (() => void)[] = [];
        let taken = 0;
        const take = (): void => void open.push(acks.take((taken++ % packetIds) + 1));
        for (const [arrives, pick] of moves) {
          if (arrives || open.length === 0) take();
          else open.splice(pick % open.length, 1)[0]?.();
        }
        expect(acks.size).toBe(taken - sent.length);
        for (const settle of open.reverse()) settle();
        expect(sent).toEqual(Array.from({ length: taken }, (_, index) => (index % packetIds) + 1));
        expect(acks.size).toBe(0);
      }),
    );
  });

  it('keeps the order while it forgets thousands that are done with', () => {
    const total = 10_000;
    const settles = Array.from({ length: total }, (_, packetId) => window.take(packetId));
    for (let index = 0; index < total; index += 2) {
      settles[index + 1]?.();
      settles[index]?.();
    }
    expect(acknowledged).toEqual(Array.from({ length: total }, (_, packetId) => packetId));
  });

  it('takes a repeated acknowledgement for none, also when the packet id is in use again', () => {
    const first = window.take(7);
    first();
    const again = window.take(7);
    first();
    expect(acknowledged).toEqual([7]);
    again();
    expect(acknowledged).toEqual([7, 7]);
  });

  it('sends nothing once the connection is closed', () => {
    const [first, second] = [window.take(1), window.take(2)];
    second();
    window.close();
    first();
    second();
    window.take(3)();
    expect(acknowledged).toEqual([]);
  });

  it('counts the lag from the oldest that still waits', () => {
    jest.useFakeTimers();
    expect(window.lag).toBe(0);
    const first = window.take(1);
    jest.advanceTimersByTime(300);
    const second = window.take(2);
    jest.advanceTimersByTime(200);
    expect(window.lag).toBe(500);
    first();
    expect(window.lag).toBe(200);
    second();
    expect(window.lag).toBe(0);
  });
});
