import fc from 'fast-check';
import { ReceiptDates } from './receipt-dates.js';

const NOON = new Date('2024-01-23T12:00:00.000Z');
const RANGES = [
  { from: 0, to: 1_000 },
  { from: 125, to: 250 },
];

describe('ReceiptDates', () => {
  it('are the time of receipt, to the millisecond', () => {
    const dates = new ReceiptDates();
    expect(Math.floor(dates.next('a', NOON).getTime())).toBe(NOON.getTime());
    expect(dates.next('b', NOON).getTime()).toBe(NOON.getTime());
  });

  it.each(RANGES)('are all different for one device, never before the receipt, within %j', (range) => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom('a', 'b'), fc.nat(3))), (arrivals) => {
        const dates = new ReceiptDates(range);
        const given: Record<string, string[]> = { a: [], b: [] };
        let now = NOON.getTime();
        for (const [device, later] of arrivals) {
          now += later;
          const date = dates.next(device, new Date(now));
          expect(date.getTime()).toBe(now);
          expect(date.micros).toBeGreaterThanOrEqual(range.from);
          expect(date.micros).toBeLessThan(range.to);
          given[device]?.push(date.toISOString());
        }
        for (const all of Object.values(given)) expect(new Set(all).size).toBe(all.length);
      }),
    );
  });

  it.each(RANGES)('go on in the next millisecond when one is used up, within %j', (range) => {
    const dates = new ReceiptDates(range);
    const count = 3 * (range.to - range.from);
    const given = Array.from({ length: count }, () => dates.next('a', NOON));
    expect(new Set(given.map((date) => date.toISOString())).size).toBe(count);
    expect(given.at(-1)?.getTime()).toBe(NOON.getTime() + 2);
  });

  it('remember few devices whose dates have passed', () => {
    const dates = new ReceiptDates();
    for (let index = 0; index < 20_000; index += 1)
      dates.next(`device_${index}`, new Date(NOON.getTime() + index));
    expect((dates as unknown as { latest: Map<string, unknown> }).latest.size).toBeLessThanOrEqual(1_000);
  });
});
