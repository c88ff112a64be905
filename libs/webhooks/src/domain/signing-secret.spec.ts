import fc from 'fast-check';
import type { DomainError } from '#kernel';
import { formatSecret, parseSecret } from './signing-secret.js';

const refused = expect.objectContaining<Partial<DomainError>>({ code: 'validation_failed' });

describe('a secret', () => {
  it('of 24 to 64 bytes comes back as it was given', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 24, maxLength: 64 }), (key) => {
        expect(Buffer.from(parseSecret(formatSecret(key))).equals(key)).toBe(true);
      }),
    );
  });

  it.each([
    ['without its prefix', Buffer.alloc(32).toString('base64')],
    ['of 23 bytes', `whsec_${Buffer.alloc(23).toString('base64')}`],
    ['of 65 bytes', `whsec_${Buffer.alloc(65).toString('base64')}`],
    ['of other characters', `whsec_${'*'.repeat(44)}`],
    ['of Base64 for addresses', `whsec_${'_-'.repeat(22)}`],
    ['that is cut off', `whsec_${'A'.repeat(33)}`],
  ])('%s is refused, and not repeated', (_what, secret) => {
    expect(() => parseSecret(secret)).toThrow(refused);
    try {
      parseSecret(secret);
    } catch (error) {
      expect(JSON.stringify(error)).not.toContain(secret.slice(6));
    }
  });
});
