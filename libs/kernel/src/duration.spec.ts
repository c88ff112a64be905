import fc from 'fast-check';
import { parseDuration } from './duration.js';

describe('parseDuration', () => {
  it.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['5m', 300_000],
    ['1h', 3_600_000],
    ['7d', 604_800_000],
    ['007s', 7_000],
    ['36525d', 3_155_760_000_000],
  ])('reads %s', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it.each([
    '',
    '5',
    'm',
    '0s',
    '-1s',
    '1.5h',
    '1 h',
    '1H',
    '5m30s',
    '1w',
    ' 1s',
    '1s\n',
    '1e3s',
    '36526d',
    '104000000d',
    '999999999d',
  ])('refuses %j', (text) => {
    expect(parseDuration(text)).toBeNull();
  });

  it('gives a positive whole number for any text that it takes', () => {
    const nearly = fc
      .tuple(fc.stringMatching(/^\d{1,12}$/), fc.constantFrom('ms', 's', 'm', 'h', 'd', ''))
      .map(([digits, unit]) => digits + unit);
    fc.assert(
      fc.property(fc.oneof(nearly, fc.string()), (text) => {
        const ms = parseDuration(text);
        expect(
          ms === null ||
            (Number.isSafeInteger(ms) && ms > 0 && !Number.isNaN(new Date(Date.now() + ms).getTime())),
        ).toBe(true);
      }),
    );
  });
});
