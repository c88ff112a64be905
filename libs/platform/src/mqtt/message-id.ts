import { hash } from 'node:crypto';

/**
 * A name for a message that is the same each time it is delivered: SHA-256 over its topic, its payload and,
 * where it carries no date of its own, the date of its first receipt. 43 characters, base64url.
 */
export function messageId(topic: string, payload: Uint8Array, firstReceived: Date | null): string {
  const parts = [Buffer.from(`${topic}\0`), payload];
  if (firstReceived) parts.push(Buffer.from(`\0${firstReceived.toISOString()}`));
  return hash('sha256', Buffer.concat(parts), 'base64url');
}
