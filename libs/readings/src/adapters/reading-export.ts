import { Transform, type Readable } from 'node:stream';
import type { StoredReading } from '../domain/reading.js';
import { viewReading } from './reading.dto.js';

const CSV_COLUMNS = ['id', 'device_id', 'metric_type', 'value', 'unit', 'timestamp', 'metadata'] as const;

/** One JSON object a line (https://github.com/ndjson/ndjson-spec). */
export function toNdjson(readings: Readable): Readable {
  return transformed(readings, '', (reading) => `${JSON.stringify(viewReading(reading))}\n`);
}

/** RFC 4180 with a header line; metadata is a JSON text. */
export function toCsv(readings: Readable): Readable {
  return transformed(readings, `${CSV_COLUMNS.join(',')}\r\n`, (reading) => {
    const view = { ...viewReading(reading), metadata: JSON.stringify(reading.metadata) };
    return `${CSV_COLUMNS.map((column) => csvField(view[column])).join(',')}\r\n`;
  });
}

function transformed(readings: Readable, head: string, line: (reading: StoredReading) => string): Readable {
  const output = new Transform({
    writableObjectMode: true,
    transform: (reading: StoredReading, _encoding, done) => done(null, line(reading)),
  });
  if (head !== '') output.push(head);
  readings.on('error', (error) => output.destroy(error));
  output.on('close', () => readings.destroy());
  return readings.pipe(output);
}

function csvField(value: string | number | null): string {
  const text = value === null ? '' : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
