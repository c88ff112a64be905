import { createHash } from 'node:crypto';
import { finished } from 'node:stream/promises';
import { Transform, type Readable } from 'node:stream';
import { Injectable } from '@nestjs/common';
import { from as copyFrom } from 'pg-copy-streams';
import { UnitOfWork, type Transaction } from '#kernel';
import { clientOf, Database, isUniqueViolation } from '#platform';
import type { Reading, StoredReading, Waveform } from '../domain/reading.js';
import { copyText } from './copy-text.js';
import { Optimism } from './optimism.js';
import {
  ReadingRepository,
  type Aggregate,
  type Bucket,
  type ReadingFilter,
} from '../ports/reading.repository.js';

interface ReadingRecord {
  readonly id: string;
  readonly device_id: string;
  readonly metric_type: string;
  readonly value: string;
  readonly unit: string | null;
  readonly timestamp: string;
  readonly metadata: Record<string, unknown>;
}

const ISO_MICROS = `'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'`;
const isoOf = (expression: string): string => `to_char(${expression} AT TIME ZONE 'UTC', ${ISO_MICROS})`;
const COLUMNS = `id, device_id, metric_type, value, unit, ${isoOf('timestamp')} AS timestamp, metadata`;
/** Buckets begin at whole multiples of the interval counted from here. */
const BUCKET_ORIGIN = `TIMESTAMPTZ '2000-01-01T00:00:00Z'`;

const COPY_READINGS =
  'COPY device_readings (device_id, metric_type, value, unit, timestamp, metadata, received_at) FROM STDIN';

/** The tables `device_readings` and `device_waveforms`. */
@Injectable()
export class PgReadingRepository extends ReadingRepository {
  private readonly optimism = new Optimism();

  constructor(
    private readonly database: Database,
    private readonly unitOfWork: UnitOfWork,
  ) {
    super();
  }

  async storeNew(
    readings: readonly Reading[],
    beside: (transaction: Transaction) => Promise<void>,
  ): Promise<boolean> {
    if (readings.length === 0) return true;
    if (!this.optimism.ask()) return false;
    try {
      await this.unitOfWork.run(async (transaction) => {
        const copy = clientOf(transaction).query(copyFrom(COPY_READINGS));
        copy.end(copyText(readings));
        // Both to their end: what is still to be sent when the transaction is undone would be done outside of it.
        const outcomes = await Promise.allSettled([finished(copy), beside(transaction)]);
        for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
      });
      this.optimism.wasRight();
      return true;
    } catch (error) {
      if (!isUniqueViolation(error)) throw error;
      this.optimism.wasWrong();
      return false;
    }
  }

  async insertReadings(transaction: Transaction, readings: readonly Reading[]): Promise<number> {
    if (readings.length === 0) return 0;
    const { rowCount } = await clientOf(transaction).query({
      name: 'readings-insert',
      text: `INSERT INTO device_readings (device_id, metric_type, value, unit, timestamp, metadata, received_at)
             SELECT * FROM unnest($1::text[], $2::text[], $3::numeric[], $4::text[], $5::timestamptz[], $6::jsonb[], $7::timestamptz[])
             ON CONFLICT DO NOTHING`,
      values: [
        readings.map((reading) => reading.deviceId),
        readings.map((reading) => reading.metricType),
        readings.map((reading) => reading.value),
        readings.map((reading) => reading.unit),
        readings.map((reading) => reading.timestamp),
        readings.map((reading) => JSON.stringify(reading.metadata)),
        readings.map((reading) => reading.receivedAt.toISOString()),
      ],
    });
    return rowCount ?? 0;
  }

  async insertWaveforms(transaction: Transaction, waveforms: readonly Waveform[]): Promise<void> {
    for (const waveform of waveforms) {
      const samples = JSON.stringify(waveform.samples);
      await clientOf(transaction).query({
        name: 'waveform-insert',
        text: `INSERT INTO device_waveforms
                 (device_id, lead, sampling_rate, unit, samples, samples_digest, timestamp, metadata, received_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
        values: [
          waveform.deviceId,
          waveform.lead,
          waveform.samplingRate,
          waveform.unit,
          waveform.samples,
          createHash('sha256').update(`${waveform.samplingRate} ${samples}`).digest(),
          waveform.timestamp,
          JSON.stringify(waveform.metadata),
          waveform.receivedAt.toISOString(),
        ],
      });
    }
  }

  async page(
    filter: ReadingFilter,
    after: { readonly timestamp: string; readonly id: number } | null,
    limit: number,
  ): Promise<readonly StoredReading[]> {
    const query = new Conditions(filter);
    if (after) {
      const beyond = filter.order === 'asc' ? '>' : '<';
      query.add(
        `(timestamp, id) ${beyond} (${query.value(after.timestamp)}::timestamptz, ${query.value(after.id)}::bigint)`,
      );
    }
    const records = await this.database.query<ReadingRecord>(
      `SELECT ${COLUMNS} FROM device_readings WHERE ${query.sql}
       ORDER BY device_readings.timestamp ${filter.order}, id ${filter.order} LIMIT ${query.value(limit)}`,
      query.values,
    );
    return records.map(toReading);
  }

  async aggregate(
    filter: ReadingFilter,
    intervalMs: number,
    aggregates: readonly Aggregate[],
    after: { readonly timestamp: string; readonly metricType: string } | null,
    limit: number,
  ): Promise<readonly Bucket[]> {
    const query = new Conditions(filter);
    const bucket = `date_bin(${query.value(intervalMs)} * INTERVAL '1 millisecond', timestamp, ${BUCKET_ORIGIN})`;
    const beyond = filter.order === 'asc' ? '>' : '<';
    const having = after
      ? `WHERE (bucket, metric_type) ${beyond} (${query.value(after.timestamp)}::timestamptz, ${query.value(after.metricType)})`
      : '';
    const records = await this.database.query<{
      metric_type: string;
      unit: string | null;
      timestamp: string;
      avg: string;
      min: string;
      max: string;
      count: string;
    }>(
      `SELECT metric_type, unit, ${isoOf('bucket')} AS timestamp, avg, min, max, count FROM (
         SELECT metric_type, min(unit) AS unit, ${bucket} AS bucket,
                round(avg(value), 4) AS avg, min(value) AS min, max(value) AS max, count(*) AS count
         FROM device_readings WHERE ${query.sql} GROUP BY metric_type, bucket
       ) AS buckets ${having}
       ORDER BY bucket ${filter.order}, metric_type ${filter.order} LIMIT ${query.value(limit)}`,
      query.values,
    );
    return records.map((record) => ({
      metricType: record.metric_type,
      unit: record.unit,
      timestamp: trimMicros(record.timestamp),
      values: Object.fromEntries(aggregates.map((name) => [name, Number(record[name])])),
    }));
  }

  async downsample(filter: ReadingFilter, maxPoints: number): Promise<readonly StoredReading[]> {
    const query = new Conditions(filter);
    const points = query.value(maxPoints);
    // Each metric gets an equal share of the points, each of its intervals two of them: its lowest and its highest.
    const records = await this.database.query<ReadingRecord>(
      `WITH wanted AS (
         SELECT * FROM device_readings WHERE ${query.sql}
       ), extent AS (
         SELECT count(*) AS rows, count(DISTINCT metric_type) AS metrics,
                extract(epoch FROM min(timestamp)) AS first, extract(epoch FROM max(timestamp)) AS last FROM wanted
       ), bucketed AS (
         SELECT wanted.*, rows,
                CASE WHEN last > first
                     THEN width_bucket(extract(epoch FROM timestamp), first, last + 0.000001,
                                       greatest(1, ${points}::int / (2 * metrics::int)))
                     ELSE 1 END AS bucket
         FROM wanted, extent
       ), ranked AS (
         SELECT *, row_number() OVER (PARTITION BY metric_type, bucket ORDER BY value, timestamp, id) AS lowest,
                   row_number() OVER (PARTITION BY metric_type, bucket ORDER BY value DESC, timestamp, id) AS highest
         FROM bucketed
       )
       SELECT ${COLUMNS} FROM ranked WHERE rows <= ${points} OR lowest = 1 OR highest = 1
       ORDER BY ranked.timestamp ${filter.order}, id ${filter.order}`,
      query.values,
    );
    return records.map(toReading);
  }

  async stream(filter: ReadingFilter): Promise<Readable> {
    const query = new Conditions(filter);
    const rows = await this.database.stream(
      `SELECT ${COLUMNS} FROM device_readings WHERE ${query.sql}
       ORDER BY device_readings.timestamp ${filter.order}, id ${filter.order}`,
      query.values,
    );
    const mapped = new Transform({
      objectMode: true,
      transform: (record: ReadingRecord, _encoding, done) => done(null, toReading(record)),
    });
    rows.on('error', (error) => mapped.destroy(error));
    mapped.on('close', () => rows.destroy());
    return rows.pipe(mapped);
  }

  async latest(filter: ReadingFilter): Promise<readonly StoredReading[]> {
    const where = new Conditions(filter);
    const records = await this.database.query<ReadingRecord>(
      `SELECT DISTINCT ON (metric_type) ${COLUMNS} FROM device_readings WHERE ${where.sql}
       ORDER BY metric_type, device_readings.timestamp DESC, id DESC`,
      where.values,
    );
    return records.map(toReading);
  }
}

/** The WHERE clause of a filter, and the parameters of the statement it stands in. */
class Conditions {
  readonly values: unknown[] = [];
  private readonly parts: string[] = [];

  constructor(filter: ReadingFilter) {
    this.add(`device_id = ${this.value(filter.deviceId)}`);
    if (filter.metricTypes) this.add(`metric_type = ANY (${this.value(filter.metricTypes)}::text[])`);
    if (filter.from !== undefined) this.add(`timestamp >= ${this.value(filter.from)}::timestamptz`);
    if (filter.to !== undefined) this.add(`timestamp < ${this.value(filter.to)}::timestamptz`);
    if (filter.receivedFrom !== undefined)
      this.add(`received_at >= ${this.value(filter.receivedFrom)}::timestamptz`);
  }

  get sql(): string {
    return this.parts.join(' AND ');
  }

  add(condition: string): void {
    this.parts.push(condition);
  }

  /** Adds a parameter. @returns its placeholder. */
  value(value: unknown): string {
    this.values.push(value);
    return `$${this.values.length}`;
  }
}

function toReading(record: ReadingRecord): StoredReading {
  return {
    id: Number(record.id),
    deviceId: record.device_id,
    metricType: record.metric_type,
    value: Number(record.value),
    unit: record.unit,
    timestamp: trimMicros(record.timestamp),
    metadata: record.metadata,
  };
}

/** Six fractional digits only where they say more than three. */
function trimMicros(iso: string): string {
  return iso.endsWith('000Z') ? `${iso.slice(0, -4)}Z` : iso;
}
