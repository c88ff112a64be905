import { isUtf8 } from 'node:buffer';
import { findJsonFlaw, MessageRejected } from '#kernel';

/** A larger payload is quarantined unread (contract, "MQTT"). */
export const MAX_PAYLOAD_BYTES = 262_144;

/**
 * Reads a payload that should be a JSON object.
 * @throws MessageRejected payload_too_large, invalid_json, invalid_payload or value_out_of_range
 */
export function parseJsonPayload(payload: Buffer): Readonly<Record<string, unknown>> {
  if (payload.length > MAX_PAYLOAD_BYTES) {
    throw new MessageRejected(
      'payload_too_large',
      `The payload has ${payload.length} bytes, more than ${MAX_PAYLOAD_BYTES}.`,
    );
  }
  if (!isUtf8(payload)) throw new MessageRejected('invalid_json', 'The payload is not UTF-8.');
  let document: unknown;
  try {
    document = JSON.parse(payload.toString('utf8'));
  } catch {
    throw new MessageRejected('invalid_json', 'The payload is not valid JSON.');
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    throw new MessageRejected('invalid_payload', 'The payload is not a JSON object.');
  }
  const flaw = findJsonFlaw(document);
  if (flaw) {
    const reason = flaw.isNumber ? 'value_out_of_range' : 'invalid_payload';
    throw new MessageRejected(reason, `${flaw.path || 'The payload'} ${flaw.reason}.`);
  }
  return document as Readonly<Record<string, unknown>>;
}
