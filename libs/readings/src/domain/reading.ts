/** One stored measurement. */
export interface Reading {
  readonly deviceId: string;
  readonly metricType: string;
  /** In the canonical unit, with at most two decimals: the precision of the column. */
  readonly value: number;
  /** UCUM code. */
  readonly unit: string;
  /** When it was measured: ISO 8601 in UTC. */
  readonly timestamp: string;
  /** What the message said besides, and `original` where value or unit were converted. */
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly receivedAt: Date;
}

/** One stored ECG segment. */
export interface Waveform {
  readonly deviceId: string;
  readonly lead: string;
  /** Samples a second. */
  readonly samplingRate: number;
  /** UCUM code of the samples. */
  readonly unit: string;
  readonly samples: readonly number[];
  readonly timestamp: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly receivedAt: Date;
}

/** A reading as it comes back from the store. */
export interface StoredReading {
  readonly id: number;
  readonly deviceId: string;
  readonly metricType: string;
  readonly value: number;
  readonly unit: string | null;
  readonly timestamp: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}
