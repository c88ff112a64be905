import { MessageRejected, requireTimestamp } from '#kernel';
import { requireOwnDeviceId, type DeviceIdentity } from '#devices';
import { CATALOGUE, ECG, ucumCode, type Metric, type Reading, type Waveform } from '#readings';
import { DICTIONARY, type FieldMeaning } from './dictionary.js';

export const MAX_ENTRIES = 1_000;
const MAX_SAMPLES = 20_000;
/** Fields that say what a measurement is, rather than something besides. */
const ENVELOPE_FIELDS: ReadonlySet<string> = new Set([
  'device_id',
  'metric_type',
  'unit',
  'timestamp',
  'value',
  'metadata',
  'readings',
]);
const WAVEFORM_FIELDS: ReadonlySet<string> = new Set(['lead', 'sampling_rate', 'samples']);
/** Fields of which a measurement consists, whatever it measures. */
const MEASUREMENT_FIELDS = ['metric_type', 'value', 'unit', ...WAVEFORM_FIELDS];

type JsonObject = Readonly<Record<string, unknown>>;

/** What one entry of a message measured. */
export interface Measurement {
  /** As the payload names it: a metric, a panel or `ecg`. */
  readonly metricType: string;
  readonly timestamp: string;
  /** The entry as sent. */
  readonly payload: JsonObject;
  readonly readings: readonly Reading[];
  readonly waveform: Waveform | null;
}

/**
 * Reads a data message by the catalogue. It is taken whole or not at all.
 * @param device the registered device the topic names.
 * @param receivedAt dates what carries no timestamp.
 * @throws MessageRejected with the reason to quarantine it for.
 */
export function decodeMessage(
  payload: JsonObject,
  device: DeviceIdentity,
  receivedAt: Date,
): readonly Measurement[] {
  requireOwnDeviceId(payload, device.deviceId);
  const { readings } = payload;
  if (readings === undefined) return [decodeEntry(payload, payload['timestamp'], device, receivedAt)];
  if (!Array.isArray(readings) || readings.length === 0 || readings.length > MAX_ENTRIES) {
    throw new MessageRejected('invalid_payload', `readings is not a list of 1 to ${MAX_ENTRIES} entries.`);
  }
  const shared = sharedFields(payload, device);
  return readings.map((entry: unknown, index) => {
    if (typeof entry !== 'object' || entry === null || Array.isArray(entry) || 'readings' in entry) {
      throw new MessageRejected(
        'invalid_payload',
        `readings[${index}] is not an object that is one measurement.`,
      );
    }
    const fields: JsonObject = { ...shared, ...entry };
    requireOwnDeviceId(fields, device.deviceId);
    return decodeEntry(fields, fields['timestamp'] ?? payload['timestamp'], device, receivedAt);
  });
}

/** What a buffered upload says of all its entries. A measurement beside the list would be lost: it is refused. */
function sharedFields(payload: JsonObject, device: DeviceIdentity): JsonObject {
  const own = [...MEASUREMENT_FIELDS, ...CATALOGUE[device.type].flatMap(({ fields }) => fields)];
  const stray = own.find((field) => payload[field] !== undefined);
  if (stray !== undefined) {
    throw new MessageRejected('invalid_payload', `${stray} and readings exclude each other.`);
  }
  const apart = new Set(['device_id', 'timestamp', 'readings']);
  return Object.fromEntries(Object.entries(payload).filter(([field]) => !apart.has(field)));
}

/** True when every measurement of the message carries its own date, so that delivering it again repeats it exactly. */
export function isDated(payload: JsonObject): boolean {
  if (hasTime(payload)) return true;
  const { readings } = payload;
  return Array.isArray(readings) && readings.every(hasTime);
}

/** A timestamp of null is none: {@link requireTimestamp} takes the time of receipt for it. */
function hasTime(entry: unknown): boolean {
  if (typeof entry !== 'object' || entry === null || !('timestamp' in entry)) return false;
  return entry.timestamp !== undefined && entry.timestamp !== null;
}

function decodeEntry(
  fields: JsonObject,
  time: unknown,
  device: DeviceIdentity,
  receivedAt: Date,
): Measurement {
  const named = fields['metric_type'];
  if (typeof named !== 'string' || named === '') {
    throw new MessageRejected('invalid_payload', 'metric_type is not a text.');
  }
  const timestamp = requireTimestamp(time, receivedAt);
  const { deviceId } = device;
  const isWaveform = named === ECG.metricType && device.type === ECG.deviceType;
  const subject = isWaveform ? NOTHING : namedMetrics(named, device);
  const { values, besides } = readFields(fields, DICTIONARY[device.type].fields, subject, isWaveform);
  if (!isWaveform && !values.some(({ metric }) => subject.includes(metric))) {
    throw new MessageRejected('invalid_payload', `There is no value for ${named}.`);
  }
  return {
    metricType: named,
    timestamp,
    payload: fields,
    readings: values.map(({ metric, value, original }) => ({
      deviceId,
      metricType: metric.metricType,
      value,
      unit: metric.unit,
      timestamp,
      metadata: original === undefined ? besides : { ...besides, original },
      receivedAt,
    })),
    waveform: isWaveform ? { deviceId, timestamp, receivedAt, ...decodeWaveform(fields, besides) } : null,
  };
}

interface ReadValue {
  readonly metric: Metric;
  readonly field: string;
  readonly value: number;
  readonly original: { readonly value: number; readonly unit: string } | undefined;
}

const NOTHING: readonly Metric[] = [];
const NO_METADATA: JsonObject = Object.freeze({});

/**
 * Reads an entry's fields, each once: the values of all metrics it gives, and what it says besides.
 * @param subject what its metric_type names: `value` and `unit` belong to that; other metrics of the device may
 * come along under their own names and in their canonical units.
 */
function readFields(
  fields: JsonObject,
  meanings: ReadonlyMap<string, FieldMeaning>,
  subject: readonly Metric[],
  isWaveform: boolean,
): { values: readonly ReadValue[]; besides: JsonObject } {
  const unit = fields['unit'] ?? undefined;
  const only = subject.length === 1 ? subject[0] : undefined;
  const found: (ReadValue | undefined)[] = [];
  const take = (metric: Metric, position: number, field: string): void => {
    const before = found[position];
    if (before) {
      throw new MessageRejected(
        'invalid_payload',
        `${before.field} and ${field} both give ${metric.metricType}.`,
      );
    }
    const own = subject.includes(metric) ? unit : undefined;
    found[position] = readValue(fields[field], field, metric, own);
  };
  let extra: Record<string, unknown> | undefined;
  for (const field of Object.keys(fields)) {
    if (ENVELOPE_FIELDS.has(field)) continue;
    const value = fields[field];
    const meaning = meanings.get(field);
    if (meaning && value !== undefined && value !== null) take(meaning.metric, meaning.position, field);
    else if (!(isWaveform && WAVEFORM_FIELDS.has(field))) (extra ??= {})[field] = value;
  }
  if (fields['value'] !== undefined && fields['value'] !== null) {
    const position = only && meanings.get(only.metricType)?.position;
    if (!only || position === undefined)
      throw new MessageRejected('invalid_payload', 'value does not say which of several metrics it gives.');
    take(only, position, 'value');
  }
  const values = found.filter((value) => value !== undefined);
  requireSystolicAboveDiastolic(values);
  return { values, besides: withMetadata(extra, fields['metadata']) };
}

/** The metrics a metric_type names: one, or the members of a panel. */
function namedMetrics(named: string, device: DeviceIdentity): readonly Metric[] {
  const found = DICTIONARY[device.type].subjects.get(named);
  if (!found)
    throw new MessageRejected('unsupported_metric', `A ${device.type} does not measure that metric_type.`);
  return found;
}

function readValue(value: unknown, field: string, metric: Metric, unit: unknown): ReadValue {
  if (typeof value !== 'number') throw new MessageRejected('invalid_payload', `${field} is not a number.`);
  const { code, canonical } = toCanonical(value, metric, unit);
  if (!(canonical >= metric.plausible.low && canonical <= metric.plausible.high)) {
    const { low, high } = metric.plausible;
    throw new MessageRejected(
      'value_out_of_range',
      `${field} is not between ${low} and ${high} ${metric.unit}.`,
    );
  }
  // The column keeps two decimals; PostgreSQL would round silently.
  const stored = Math.round((canonical + Number.EPSILON) * 100) / 100;
  const unchanged = stored === value && code === metric.unit;
  return {
    metric,
    field,
    value: stored,
    original: unchanged ? undefined : { value, unit: typeof unit === 'string' ? unit : code },
  };
}

function toCanonical(
  value: number,
  metric: Pick<Metric, 'unit' | 'accepts'>,
  unit: unknown,
): { code: string; canonical: number } {
  if (unit === undefined) return { code: metric.unit, canonical: value };
  const code = typeof unit === 'string' ? ucumCode(unit) : null;
  if (code === metric.unit) return { code, canonical: value };
  const convert = code !== null && Object.hasOwn(metric.accepts, code) ? metric.accepts[code] : undefined;
  if (code === null || !convert) {
    const accepted = [metric.unit, ...Object.keys(metric.accepts)].join(', ');
    throw new MessageRejected('invalid_unit', `unit is none of ${accepted}.`);
  }
  return { code, canonical: convert(value) };
}

function requireSystolicAboveDiastolic(values: readonly { metric: Metric; value: number }[]): void {
  const of = (metricType: string): number | undefined =>
    values.find(({ metric }) => metric.metricType === metricType)?.value;
  const systolic = of('systolic');
  const diastolic = of('diastolic');
  if (systolic !== undefined && diastolic !== undefined && systolic <= diastolic) {
    throw new MessageRejected('value_out_of_range', 'systolic is not above diastolic.');
  }
}

function decodeWaveform(
  fields: JsonObject,
  besides: JsonObject,
): Pick<Waveform, 'lead' | 'samplingRate' | 'unit' | 'samples' | 'metadata'> {
  const { lead, sampling_rate: samplingRate, samples } = fields;
  const { leads, amplitude } = ECG;
  if (typeof lead !== 'string' || !(leads as readonly string[]).includes(lead)) {
    throw new MessageRejected('invalid_payload', `lead is none of ${leads.join(', ')}.`);
  }
  if (typeof samplingRate !== 'number')
    throw new MessageRejected('invalid_payload', 'sampling_rate is not a number.');
  if (!(samplingRate >= ECG.samplingRate.low && samplingRate <= ECG.samplingRate.high)) {
    const { low, high } = ECG.samplingRate;
    throw new MessageRejected('value_out_of_range', `sampling_rate is not between ${low} and ${high} Hz.`);
  }
  if (!Array.isArray(samples) || samples.length === 0 || samples.length > MAX_SAMPLES) {
    throw new MessageRejected('invalid_payload', `samples is not a list of 1 to ${MAX_SAMPLES} numbers.`);
  }
  const unit = fields['unit'] ?? undefined;
  const converted = samples.map((sample: unknown) => {
    if (typeof sample !== 'number')
      throw new MessageRejected('invalid_payload', 'samples holds something that is no number.');
    const { canonical } = toCanonical(sample, ECG, unit);
    if (!(canonical >= amplitude.low && canonical <= amplitude.high)) {
      throw new MessageRejected(
        'value_out_of_range',
        `samples are not between ${amplitude.low} and ${amplitude.high} mV.`,
      );
    }
    return canonical;
  });
  const { code } = toCanonical(0, ECG, unit);
  return {
    lead,
    samplingRate,
    unit: ECG.unit,
    samples: converted,
    metadata: code === ECG.unit ? besides : { ...besides, original: { unit } },
  };
}

/** What a message says besides its measurements, its own `metadata` object merged in. */
function withMetadata(extra: JsonObject | undefined, metadata: unknown): JsonObject {
  if (metadata === undefined || metadata === null) return extra ?? NO_METADATA;
  return typeof metadata === 'object' && !Array.isArray(metadata)
    ? { ...extra, ...metadata }
    : { ...extra, metadata };
}
