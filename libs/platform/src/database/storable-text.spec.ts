import fc from 'fast-check';
import { storableText } from './storable-text.js';

describe('storableText', () => {
  it('leaves what can be stored as it is', () => {
    const emoji = '\u{1f600}'.repeat(40);
    for (const text of ['', 'operator-1', 'Zoë', emoji]) expect(storableText(text, 40)).toBe(text);
  });

  it('ends what it changes in a digest of what it was', () => {
    for (const text of ['a\u0000b', 'a\ud800b', 'x'.repeat(41)])
      expect(storableText(text, 40)).toMatch(/^.+~[0-9a-f]{32}$/);
  });

  it('keeps two texts two', () => {
    const taken = storableText('a\u0000b', 40);
    const texts = [
      'a\u0000b',
      'a\u0001b',
      'a\ud800b',
      'a\ud801b',
      'a\ufffdb',
      'x'.repeat(41),
      'x'.repeat(42),
      taken,
    ];
    expect(new Set(texts.map((text) => storableText(text, 40))).size).toBe(texts.length);
  });

  it('fits whatever it is given', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 100 }), (text) => {
        const stored = storableText(text, 40);
        expect([...stored].length).toBeLessThanOrEqual(40);
        // eslint-disable-next-line no-control-regex -- they are what is looked for
        expect(stored.isWellFormed() && !/[\u0000-\u001f\u007f-\u009f]/.test(stored)).toBe(true);
      }),
    );
  });
});
