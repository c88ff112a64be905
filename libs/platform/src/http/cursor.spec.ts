import fc from 'fast-check';
import type { DomainError } from '#kernel';
import { decodeCursor, encodeCursor } from './cursor.js';

const refused = expect.objectContaining<Partial<DomainError>>({
  kind: 'invalid',
  code: 'validation_failed',
  errors: [{ field: 'cursor', message: 'is not a cursor of this list' }],
});
const of = (json: string): string => Buffer.from(json).toString('base64url');

describe('page cursor', () => {
  it('comes back as it was made, and needs no escaping in an address', () => {
    // PostgreSQL holds no text with U+0000 or half of a surrogate pair: no row has such a key.
    const text = fc.string({ unit: 'grapheme' }).filter((key) => !key.includes('\0'));
    fc.assert(
      fc.property(text, fc.maxSafeInteger(), (key, id) => {
        const cursor = encodeCursor([key, id]);
        expect(decodeCursor(cursor, ['string', 'number'])).toEqual([key, id]);
        expect(cursor).toMatch(/^[\w-]+$/);
      }),
    );
  });

  it.each([
    ['nothing', ''],
    ['no JSON', of('["x",')],
    ['an object', of('{"0":"x","1":1,"length":2}')],
    ['null', of('null')],
    ['too few parts', of('["x"]')],
    ['too many parts', of('["x",1,1]')],
    ['the parts of another list', of('[1,"x"]')],
    ['a fraction', of('["x",1.5]')],
    ['a number beyond exactness', of('["x",9007199254740993]')],
    ['an infinite number', of('["x",1e999]')],
    ['a text the database can not hold', of('["\\u0000",1]')],
  ])('is refused: %s', (_what, cursor) => {
    expect(() => decodeCursor(cursor, ['string', 'number'])).toThrow(refused);
  });

  it('is read or refused, whatever a client sends', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json().map(of)), (cursor) => {
        try {
          const [id] = decodeCursor(cursor, ['number']);
          expect(Number.isSafeInteger(id)).toBe(true);
        } catch (error) {
          expect(error).toEqual(refused);
        }
      }),
    );
  });
});
