import { createHash } from 'node:crypto';

/**
 * A name for a message that is the same each time it is delivered: SHA-256 over its topic, its payload and,
 * where it carries no date of its own, the date of its first receipt. 43 characters, base64url.
 */
export function messageId(topic: string, payload: Uint8Array, firstReceived: Date | null): string {
  const hash = createHash('sha256').update(topic).update('\0').update(payload);
  if (firstReceived) hash.update('\0').update(firstReceived.toISOString());
  return hash.digest('base64url');
}
