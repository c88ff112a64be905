import fc from 'fast-check';
import { backoff, judge, LONGEST_DELAY_MS, type Attempt } from './delivery.js';

const BOUNDS = { maxAttempts: 5, maxAgeMs: 60_000, baseMs: 1_000 };
const FAILED: Attempt = { taken: false, status: 500, failure: 'http_error' };

describe('what becomes of a delivery', () => {
  it('is delivered when it was taken, however late', () => {
    const late = { attempts: 99, ageMs: 1e9 };
    expect(judge({ taken: true, status: 202 }, late, BOUNDS, 0)).toEqual({ state: 'delivered' });
  });

  it.each<[string, Attempt]>([
    ['an error of the receiver', FAILED],
    ['an error of ours, as the receiver sees it', { taken: false, status: 401, failure: 'http_error' }],
    ['silence', { taken: false, status: null, failure: 'timeout' }],
    ['an address that is refused', { taken: false, status: null, failure: 'address_refused' }],
  ])('is tried again after %s', (_what, attempt) => {
    const verdict = judge(attempt, { attempts: 4, ageMs: 59_999 }, BOUNDS, 0.5);
    expect(verdict).toEqual({ state: 'pending', delayMs: 4_000 });
  });

  it.each([
    ['as many attempts as there may be', { attempts: 5, ageMs: 0 }],
    ['as long as it may take', { attempts: 1, ageMs: 60_000 }],
  ])('is given up after %s', (_what, made) => {
    expect(judge(FAILED, made, BOUNDS, 0.5)).toEqual({ state: 'dead', disables: false });
  });

  it('is given up at once, with all others, when its receiver is gone', () => {
    const gone: Attempt = { taken: false, status: 410, failure: 'gone' };
    expect(judge(gone, { attempts: 1, ageMs: 0 }, BOUNDS, 0.5)).toEqual({ state: 'dead', disables: true });
  });
});

describe('the wait for another attempt', () => {
  it('may be anything up to twice the last one, and never more than 10 minutes', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1_000 }),
        fc.integer({ min: 1, max: LONGEST_DELAY_MS }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (attempts, baseMs, random) => {
          const wait = backoff(attempts, baseMs, random);
          const full = Math.min(LONGEST_DELAY_MS, baseMs * 2 ** (attempts - 1));
          expect(Number.isSafeInteger(wait)).toBe(true);
          expect(wait).toBeGreaterThanOrEqual(0);
          expect(wait).toBeLessThan(full);
          expect(wait).toBe(Math.floor(full * random));
        },
      ),
    );
  });
});
