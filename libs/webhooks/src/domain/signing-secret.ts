import { unusable } from './webhook.js';

/** Standard Webhooks 1.0.0, "Signature scheme": 24 to 64 random bytes, in Base64, behind this prefix. */
const PREFIX = 'whsec_';
const MIN_BYTES = 24;
const MAX_BYTES = 64;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** How a secret is shown, and given. */
export function formatSecret(key: Uint8Array): string {
  return PREFIX + Buffer.from(key).toString('base64');
}

/** The key a secret stands for. @throws DomainError invalid/validation_failed, without saying what was given. */
export function parseSecret(secret: string): Uint8Array {
  const encoded = secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : '';
  const key = BASE64.test(encoded) ? Buffer.from(encoded, 'base64') : Buffer.alloc(0);
  if (key.length >= MIN_BYTES && key.length <= MAX_BYTES) return key;
  throw unusable('secret', `must be ${PREFIX} and ${MIN_BYTES} to ${MAX_BYTES} bytes in Base64`);
}
