import fc from 'fast-check';
import { isDeviceId } from './device.js';

const ALNUM = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const FIRST = new Set(ALNUM);
const REST = new Set(`${ALNUM}._:-`);

describe('isDeviceId', () => {
  it.each(['device_123', '0', 'a'.repeat(255), 'A-1.b:c_d', 'urn:dev:mac:0024befffe804ff1'])(
    'takes %s',
    (id) => {
      expect(isDeviceId(id)).toBe(true);
    },
  );

  it.each(['', '_a', '-a', '.a', ':a', 'a b', 'a/b', 'a+', '#', 'a\n', '\0', 'é', 'a'.repeat(256)])(
    'refuses %j',
    (id) => {
      expect(isDeviceId(id)).toBe(false);
    },
  );

  it('takes a text exactly when it is made of the characters allowed, and not too long', () => {
    const nearly = fc.string({ unit: fc.constantFrom(...REST, '/', ' ', '\n', '+'), maxLength: 260 });
    fc.assert(
      fc.property(fc.oneof(nearly, fc.string()), (text) => {
        const [first = '', ...rest] = Array.from(text);
        const allowed = FIRST.has(first) && rest.every((char) => REST.has(char)) && text.length <= 255;
        expect(isDeviceId(text)).toBe(allowed);
      }),
    );
  });
});
