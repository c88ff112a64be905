import fc from 'fast-check';
import { MessageRejected } from '#kernel';
import { MAX_PAYLOAD_BYTES, parseJsonPayload } from './json-payload.js';

/** A JSON object of exactly this many bytes. */
const ofSize = (bytes: number): Buffer => Buffer.from(`{"a":"${'x'.repeat(bytes - 8)}"}`);

/** Why a payload is refused; null when it is taken. */
function refusal(payload: Buffer | string): string | null {
  try {
    parseJsonPayload(Buffer.from(payload as string));
    return null;
  } catch (error) {
    if (error instanceof MessageRejected) return error.reason;
    throw error;
  }
}

describe('parseJsonPayload', () => {
  it('reads an object', () => {
    expect(parseJsonPayload(Buffer.from(' {"unit": "°C", "value": 36.6}\n'))).toEqual({
      unit: '°C',
      value: 36.6,
    });
  });

  it.each<[string, Buffer | string, string | null]>([
    ['the largest payload', ofSize(MAX_PAYLOAD_BYTES), null],
    ['one byte more', ofSize(MAX_PAYLOAD_BYTES + 1), 'payload_too_large'],
    ['a large payload that is no JSON', 'x'.repeat(MAX_PAYLOAD_BYTES + 1), 'payload_too_large'],
    ['nothing', '', 'invalid_json'],
    ['a text', 'online', 'invalid_json'],
    ['half an object', '{"value": 1', 'invalid_json'],
    ['NaN', '{"value": NaN}', 'invalid_json'],
    ['a byte order mark', '\ufeff{}', 'invalid_json'],
    ['bytes that are not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 'invalid_json'],
    ['a surrogate in UTF-8', Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), 'invalid_json'],
    ['a list', '[{"value": 1}]', 'invalid_payload'],
    ['null', 'null', 'invalid_payload'],
    ['a number', '36.6', 'invalid_payload'],
    ['U+0000', '{"a": "\\u0000"}', 'invalid_payload'],
    ['half a surrogate pair', '{"a": "\\ud800"}', 'invalid_payload'],
    ['__proto__', '{"__proto__": {"a": 1}}', 'invalid_payload'],
    ['32 levels', `{"a":${'['.repeat(31)}${']'.repeat(31)}}`, null],
    ['33 levels', `{"a":${'['.repeat(32)}${']'.repeat(32)}}`, 'invalid_payload'],
    ['100,000 levels', `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, 'invalid_payload'],
  ])('%s', (_what, payload, reason) => {
    expect(refusal(payload)).toBe(reason);
  });

  it('takes or rejects whatever arrives, and never fails otherwise', () => {
    const payloads = fc.oneof(
      fc.uint8Array().map((bytes) => Buffer.from(bytes)),
      fc.json().map((text) => Buffer.from(text)),
    );
    fc.assert(fc.property(payloads, (payload) => void refusal(payload)));
  });
});
