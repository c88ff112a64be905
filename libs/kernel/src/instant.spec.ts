import fc from 'fast-check';
import { parseInstant } from './instant.js';

describe('parseInstant', () => {
  it.each([
    ['2024-01-23T10:30:00Z', '2024-01-23T10:30:00.000Z'],
    ['2024-01-23t10:30:00.5z', '2024-01-23T10:30:00.500Z'],
    ['2024-01-23T10:30:00.123456789Z', '2024-01-23T10:30:00.123456Z'],
    ['2024-01-23T10:30:00+02:00', '2024-01-23T08:30:00.000Z'],
    ['2024-01-01T00:30:00+0100', '2023-12-31T23:30:00.000Z'],
    ['2016-12-31T23:59:60Z', '2016-12-31T23:59:59.000Z'],
  ])('reads %s', (text, iso) => {
    expect(parseInstant(text)?.iso).toBe(iso);
  });

  it.each([
    '',
    '2024-01-23',
    '2024-01-23T10:30:00',
    '2024-02-30T10:30:00Z',
    '2024-01-23T24:30:00Z',
    '2024-01-23T10:30:00+24:00',
    '1706005800',
    '0000-01-01T00:00:00+01:00',
  ])('refuses %j', (text) => {
    expect(parseInstant(text)).toBeNull();
  });

  it('reads back every moment JavaScript can write', () => {
    const years = {
      min: new Date('0001-01-02T00:00:00Z'),
      max: new Date('9999-12-30T00:00:00Z'),
      noInvalidDate: true,
    };
    fc.assert(
      fc.property(fc.date(years), (date) => {
        expect(parseInstant(date.toISOString())).toEqual({
          iso: date.toISOString(),
          epochMs: date.getTime(),
        });
      }),
    );
  });
});
