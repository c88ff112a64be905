import fc from 'fast-check';
import { ReceiptDates } from './receipt-dates.js';

const NOON = new Date('2024-01-23T12:00:00.000Z');

describe('ReceiptDates', () => {
  it('are the time of receipt where nothing else has it', () => {
    const dates = new ReceiptDates();
    expect(dates.next('a', NOON)).toEqual(NOON);
    expect(dates.next('b', NOON)).toEqual(NOON);
    expect(dates.next('a', new Date(NOON.getTime() + 5)).getTime()).toBe(NOON.getTime() + 5);
  });

  it('are all different for one device, in the order of receipt, and no further ahead than there are messages', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom('a', 'b'), fc.nat(3))), (arrivals) => {
        const dates = new ReceiptDates();
        const given: Record<string, number[]> = { a: [], b: [] };
        let now = NOON.getTime();
        for (const [device, later] of arrivals) {
          now += later;
          const date = dates.next(device, new Date(now)).getTime();
          expect(date).toBeGreaterThanOrEqual(now);
          expect(date - now).toBeLessThanOrEqual(given[device]?.length ?? 0);
          given[device]?.push(date);
        }
        for (const all of Object.values(given)) {
          expect(new Set(all).size).toBe(all.length);
          expect([...all].sort((a, b) => a - b)).toEqual(all);
        }
      }),
    );
  });

  it('remember only devices whose dates are still ahead', () => {
    const dates = new ReceiptDates();
    for (let index = 0; index < 20_000; index += 1) dates.next(`device_${index}`, NOON);
    const later = new Date(NOON.getTime() + 1);
    dates.next('a', later);
    expect((dates as unknown as { latest: Map<string, number> }).latest.size).toBe(1);
    expect(dates.next('a', later)).toEqual(new Date(later.getTime() + 1));
  });
});
