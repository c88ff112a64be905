import type { Reading } from '../domain/reading.js';

const EMPTY = '{}';

/**
 * Rows in PostgreSQL's COPY text format (manual, COPY, "Text Format"): `device_id, metric_type, value, unit, timestamp,
 * metadata, received_at`. Readings of one message share their metadata and date objects, which are then written once.
 */
export function copyText(readings: readonly Reading[]): Buffer {
  let text = '';
  let metadata: Reading['metadata'] | undefined;
  let metadataText = EMPTY;
  let receivedAt: Date | undefined;
  let receivedAtText = '';
  for (const reading of readings) {
    if (reading.metadata !== metadata) {
      metadata = reading.metadata;
      metadataText = escape(JSON.stringify(metadata));
    }
    if (reading.receivedAt !== receivedAt) {
      receivedAt = reading.receivedAt;
      receivedAtText = receivedAt.toISOString();
    }
    text += `${reading.deviceId}\t${reading.metricType}\t${reading.value}\t${reading.unit}\t${reading.timestamp}\t${metadataText}\t${receivedAtText}\n`;
  }
  return Buffer.from(text, 'utf8');
}

/** JSON text holds no raw tab or newline: the backslash is all that COPY would take for something else. */
function escape(json: string): string {
  return json.includes('\\') ? json.replaceAll('\\', '\\\\') : json;
}
