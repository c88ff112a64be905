import type { Readable } from 'node:stream';
import type { Transaction } from '#kernel';
import type { Reading, StoredReading, Waveform } from '../domain/reading.js';

/** Which of a device's readings. Times are ISO 8601; `from` is included, `to` is not. */
export interface ReadingFilter {
  readonly deviceId: string;
  /** Stored metric types; all when absent. */
  readonly metricTypes?: readonly string[];
  readonly from?: string;
  readonly to?: string;
  /** Without those that came in before. */
  readonly receivedFrom?: string;
  readonly order: 'asc' | 'desc';
}

export const AGGREGATES = ['avg', 'min', 'max', 'count'] as const;
export type Aggregate = (typeof AGGREGATES)[number];

/** One metric over one interval. `timestamp` is the interval's beginning. */
export interface Bucket {
  readonly metricType: string;
  readonly unit: string | null;
  readonly timestamp: string;
  readonly values: Readonly<Partial<Record<Aggregate, number>>>;
}

/** Where measurements are kept. */
export abstract class ReadingRepository {
  /**
   * Stores readings in a transaction of its own, the fastest way there is, provided that none of them is there already.
   * @param beside what else belongs to the transaction; it runs beside the readings, and not after them.
   * @returns false when one is, or when that is to be expected; nothing is stored then.
   */
  abstract storeNew(
    readings: readonly Reading[],
    beside: (transaction: Transaction) => Promise<void>,
  ): Promise<boolean>;

  /**
   * Stores readings; one that is there already (same device, metric, time and value) is left alone.
   * @returns how many were not there yet.
   */
  abstract insertReadings(transaction: Transaction, readings: readonly Reading[]): Promise<number>;

  /** Stores ECG segments; one that is there already is left alone. */
  abstract insertWaveforms(transaction: Transaction, waveforms: readonly Waveform[]): Promise<void>;

  /** A page in the order of time, starting behind `after` (a reading's timestamp and id). */
  abstract page(
    filter: ReadingFilter,
    after: { readonly timestamp: string; readonly id: number } | null,
    limit: number,
  ): Promise<readonly StoredReading[]>;

  /** A page of buckets of `intervalMs`, starting behind `after`. */
  abstract aggregate(
    filter: ReadingFilter,
    intervalMs: number,
    aggregates: readonly Aggregate[],
    after: { readonly timestamp: string; readonly metricType: string } | null,
    limit: number,
  ): Promise<readonly Bucket[]>;

  /** About `maxPoints` readings, and at least two of each metric, that keep each metric's extremes over the range. */
  abstract downsample(filter: ReadingFilter, maxPoints: number): Promise<readonly StoredReading[]>;

  /** All of the range as an object stream of StoredReading, read from the database as it is consumed. */
  abstract stream(filter: ReadingFilter): Promise<Readable>;

  /** The newest reading of each metric. */
  abstract latest(filter: ReadingFilter): Promise<readonly StoredReading[]>;
}
