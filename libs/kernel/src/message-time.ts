import { parseInstant } from './instant.js';
import { MessageRejected } from './quarantine.js';

/** A clock this far ahead is a drifting one; further ahead it is a wrong one (contract, "MQTT"). */
const MAX_AHEAD_MS = 5 * 60_000;

/**
 * Reads a message's timestamp: an RFC 3339 text with its offset.
 * @returns ISO 8601 in UTC; the time of receipt where there is none.
 * @throws MessageRejected invalid_payload or timestamp_in_future
 */
export function requireTimestamp(time: unknown, receivedAt: Date): string {
  if (time === undefined || time === null) return receivedAt.toISOString();
  const instant = typeof time === 'string' ? parseInstant(time) : null;
  if (!instant) {
    throw new MessageRejected('invalid_payload', 'timestamp is not an RFC 3339 time with its offset.');
  }
  if (instant.epochMs > receivedAt.getTime() + MAX_AHEAD_MS) {
    throw new MessageRejected(
      'timestamp_in_future',
      "timestamp is more than 5 minutes ahead of the service's clock.",
    );
  }
  return instant.iso;
}
