import { MessageRejected } from '#kernel';
import type { DeviceIdentity } from '#devices';
import { decodeMessage, MAX_ENTRIES, type Measurement } from './decode.js';

/** A payload this small can't grow to much: it need not be measured. */
const UNMEASURED_BYTES = 8_192;
const MAX_EXPANDED_BYTES = 1_048_576;

/**
 * {@link decodeMessage} for payloads of strangers: what a buffered upload says of all its entries is stored with each of
 * their readings, so that a payload of 256 KiB could grow to hundreds of MiB.
 * @param bytes the payload's.
 * @throws MessageRejected payload_too_large, or what decodeMessage finds.
 */
export function decodeBounded(
  payload: Readonly<Record<string, unknown>>,
  bytes: number,
  device: DeviceIdentity,
  receivedAt: Date,
): readonly Measurement[] {
  if (bytes <= UNMEASURED_BYTES) return decodeMessage(payload, device, receivedAt);
  requireFewCopies(payload);
  const measurements = decodeMessage(payload, device, receivedAt);
  requireModest(measurements);
  return measurements;
}

/** Before decoding, which copies the shared fields into each entry, and into the event that tells of it. */
function requireFewCopies({ readings, ...shared }: Readonly<Record<string, unknown>>): void {
  if (!Array.isArray(readings) || readings.length > MAX_ENTRIES) return;
  if (jsonBytes(shared) * readings.length > MAX_EXPANDED_BYTES) throw tooLarge(readings.length);
}

function requireModest(measurements: readonly Measurement[]): void {
  const count = measurements.reduce(
    (sum, { readings, waveform }) => sum + readings.length + (waveform ? 1 : 0),
    0,
  );
  const known = new Map<object, number>();
  let total = 0;
  const add = (metadata: object): void => {
    let size = known.get(metadata);
    if (size === undefined) known.set(metadata, (size = jsonBytes(metadata)));
    total += size;
    // At once: writing all of them down to measure them would itself take what is to be spared.
    if (total > MAX_EXPANDED_BYTES) throw tooLarge(count);
  };
  for (const { readings, waveform } of measurements) {
    for (const { metadata } of readings) add(metadata);
    if (waveform) add(waveform.metadata);
  }
}

function jsonBytes(value: object): number {
  return Buffer.byteLength(JSON.stringify(value));
}

function tooLarge(readings: number): MessageRejected {
  return new MessageRejected(
    'payload_too_large',
    `Its metadata, repeated for each of its ${readings} readings, takes more than 1 MiB.`,
  );
}
