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

  it('reads a moment the same however it is spelled', () => {
    const moment = fc.record({
      date: fc.date({
        min: new Date('0001-01-02T00:00:00Z'),
        max: new Date('9999-12-30T00:00:00Z'),
        noInvalidDate: true,
      }),
      digits: fc.constantFrom(0, 3, 6),
      micros: fc.integer({ min: 0, max: 999 }),
    });
    fc.assert(
      fc.property(moment, ({ date, digits, micros }) => {
        const seconds = date.toISOString().slice(0, 19);
        const fraction = `${date.toISOString().slice(20, 23)}${String(micros).padStart(3, '0')}`.slice(
          0,
          digits,
        );
        const local = digits === 0 ? seconds : `${seconds}.${fraction}`;
        // The offset is only understood by the general way, Z by the quick one.
        expect(parseInstant(`${local}Z`)).toEqual(parseInstant(`${local}+00:00`));
      }),
    );
  });

  it('knows which dates there are', () => {
    const two = (number: number): string => String(number).padStart(2, '0');
    const date = fc.tuple(fc.integer({ min: 1, max: 9_999 }), fc.nat(13), fc.nat(32));
    fc.assert(
      fc.property(date, ([year, month, day]) => {
        const text = `${String(year).padStart(4, '0')}-${two(month)}-${two(day)}T10:30:00`;
        expect(parseInstant(`${text}Z`)).toEqual(parseInstant(`${text}+00:00`));
      }),
    );
    for (const [year, exists] of [
      [2024, true],
      [2023, false],
      [2000, true],
      [1900, false],
    ] as const) {
      expect(parseInstant(`${year}-02-29T00:00:00Z`) !== null).toBe(exists);
      expect(parseInstant(`${year}-02-29T00:00:00+00:00`) !== null).toBe(exists);
    }
  });

  it('takes no text for a moment that only looks like one', () => {
    const spoiled = fc
      .tuple(
        fc.constantFrom('2024-01-23T10:30:00Z', '2024-01-23T10:30:00.123Z', '2024-01-23T10:30:00.123456Z'),
        fc.nat(26),
        fc.string({ minLength: 1, maxLength: 1 }),
      )
      .map(([text, at, char]) => text.slice(0, at % text.length) + char + text.slice((at % text.length) + 1));
    fc.assert(
      fc.property(spoiled, (text) => {
        const quick = parseInstant(text);
        const general = text.endsWith('Z') ? parseInstant(`${text.slice(0, -1)}+00:00`) : quick;
        expect(quick).toEqual(general);
      }),
    );
  });
});
