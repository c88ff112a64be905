import fc from 'fast-check';
import { parseInstant, type DomainError } from '#kernel';
import { cursorInstant, readPeriod } from './period.js';

const refused = (...fields: readonly string[]): DomainError =>
  expect.objectContaining<Partial<DomainError>>({
    kind: 'invalid',
    code: 'validation_failed',
    errors: fields.map((field) => ({ field, message: expect.any(String) as string })),
  }) as DomainError;

describe('readPeriod', () => {
  it('reads both sides, in UTC', () => {
    expect(readPeriod({ from: '2024-01-23T10:30:00+02:00', to: '2024-01-23T10:30:00.123456Z' })).toEqual({
      from: '2024-01-23T08:30:00.000Z',
      to: '2024-01-23T10:30:00.123456Z',
    });
  });

  it('takes an offset whose + arrived as a space', () => {
    expect(readPeriod({ to: '2024-01-23T10:30:00 02:00' })).toEqual({ to: '2024-01-23T08:30:00.000Z' });
  });

  it('leaves an absent side open', () => {
    expect(readPeriod({})).toEqual({});
  });

  it('names each side that is no time', () => {
    expect(() => readPeriod({ from: 'yesterday', to: '2024-01-23' })).toThrow(refused('from', 'to'));
  });

  it('reads or refuses, whatever a client sends', () => {
    const date = fc.date({ noInvalidDate: true }).map((moment) => moment.toISOString());
    fc.assert(
      fc.property(fc.oneof(fc.string(), date), (from) => {
        try {
          expect(parseInstant(readPeriod({ from }).from ?? '')).not.toBeNull();
        } catch (error) {
          expect(error).toEqual(refused('from'));
        }
      }),
    );
  });
});

describe('cursorInstant', () => {
  it('keeps microseconds', () => {
    expect(cursorInstant('2024-01-23T10:30:00.123456Z')).toBe('2024-01-23T10:30:00.123456Z');
  });

  it.each(['', 'now', 'infinity', '2024-02-30T00:00:00Z'])('refuses %p', (text) => {
    expect(() => cursorInstant(text)).toThrow(refused('cursor'));
  });
});
