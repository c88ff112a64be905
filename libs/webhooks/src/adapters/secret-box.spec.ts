import { SecretBox } from './secret-box.js';

const SECRET = Buffer.from('a secret of some webhook');

describe('a secret at rest', () => {
  it('is readable only with the key, and of its own webhook', () => {
    const box = new SecretBox('the key');
    const stored = box.seal(SECRET, 'one');
    expect(stored.includes(SECRET)).toBe(false);
    expect(box.open(stored, 'one')).toEqual(SECRET);
    expect(box.open(stored, 'another')).toBeNull();
    expect(new SecretBox('another key').open(stored, 'one')).toBeNull();
    expect(new SecretBox(undefined).open(stored, 'one')).toBeNull();
  });

  it('is never the same twice', () => {
    const box = new SecretBox('the key');
    expect(box.seal(SECRET, 'one')).not.toEqual(box.seal(SECRET, 'one'));
  });

  it.each([1, 12, 28, 30])('is nothing once its byte %i was changed', (index) => {
    const box = new SecretBox('the key');
    const stored = box.seal(SECRET, 'one');
    stored[index] = (stored[index] ?? 0) ^ 1;
    expect(box.open(stored, 'one')).toBeNull();
  });

  it('is stored as it is without a key, and read with one that came later', () => {
    const stored = new SecretBox(undefined).seal(SECRET, 'one');
    expect(new SecretBox(undefined).open(stored, 'one')).toEqual(SECRET);
    expect(new SecretBox('the key').open(stored, 'one')).toEqual(SECRET);
  });
});
