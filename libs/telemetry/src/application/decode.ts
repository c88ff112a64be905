import { MessageRejected, parseInstant } from '#kernel';
import { requireOwnDeviceId, type Device } from '#devices';
import { CATALOGUE, ECG, PANELS, ucumCode, type Metric, type Reading, type Waveform } from '#readings';

/** A clock this far ahead is a drifting one; further ahead it is a wrong one (contract, "MQTT"). */
const MAX_AHEAD_MS = 5 * 60_000;
const MAX_ENTRIES = 1_000;
const MAX_SAMPLES = 20_000;
/** Fields that say what a measurement is, rather than something besides. */
const ENVELOPE_FIELDS: ReadonlySet<string> = new Set([
  'device_id',
  'metric_type',
  'unit',
  'timestamp',
  'value',
  'metadata',
]);
const WAVEFORM_FIELDS: ReadonlySet<string> = new Set([
  ...ENVELOPE_FIELDS,
  'lead',
  'sampling_rate',
  'samples',
]);

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
export function decodeMessage(payload: JsonObject, device: Device, receivedAt: Date): readonly Measurement[] {
  requireOwnDeviceId(payload, device.deviceId);
  const { readings } = payload;
  if (readings === undefined) return [decodeEntry(payload, payload['timestamp'], device, receivedAt)];
  if (!Array.isArray(readings) || readings.length === 0 || readings.length > MAX_ENTRIES) {
    throw new MessageRejected('invalid_payload', `readings is not a list of 1 to ${MAX_ENTRIES} entries.`);
  }
  return readings.map((entry: unknown, index) => {
    if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) {
      throw new MessageRejected('invalid_payload', `readings[${index}] is not an object.`);
    }
    const fields = entry as JsonObject;
    requireOwnDeviceId(fields, device.deviceId);
    return decodeEntry(fields, fields['timestamp'] ?? payload['timestamp'], device, receivedAt);
  });
}

/** True when every measurement of the message carries its own date, so that delivering it again repeats it exactly. */
export function isDated(payload: JsonObject): boolean {
  if (hasTime(payload)) return true;
  const { readings } = payload;
  return Array.isArray(readings) && readings.every(hasTime);
}

/** A timestamp of null is none: {@link readTimestamp} takes the time of receipt for it. */
function hasTime(entry: unknown): boolean {
  if (typeof entry !== 'object' || entry === null || !('timestamp' in entry)) return false;
  return entry.timestamp !== undefined && entry.timestamp !== null;
}

function decodeEntry(fields: JsonObject, time: unknown, device: Device, receivedAt: Date): Measurement {
  const named = fields['metric_type'];
  if (typeof named !== 'string' || named === '') {
    throw new MessageRejected('invalid_payload', 'metric_type is not a text.');
  }
  const timestamp = readTimestamp(time, receivedAt);
  if (named === ECG.metricType && device.type === ECG.deviceType) {
    const waveform = decodeWaveform(fields, timestamp, device, receivedAt);
    return { metricType: named, timestamp, payload: fields, readings: [], waveform };
  }
  const readings = decodeReadings(fields, named, timestamp, device, receivedAt);
  return { metricType: named, timestamp, payload: fields, readings, waveform: null };
}

function readTimestamp(time: unknown, receivedAt: Date): string {
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

function decodeReadings(
  fields: JsonObject,
  named: string,
  timestamp: string,
  device: Device,
  receivedAt: Date,
): readonly Reading[] {
  const metrics = CATALOGUE[device.type];
  const subject = namedMetrics(named, metrics, device);
  const unit = fields['unit'] ?? undefined;
  const used = new Set(ENVELOPE_FIELDS);
  const values: { metric: Metric; value: number; original: unknown }[] = [];
  for (const metric of metrics) {
    // `value` and `unit` belong to what metric_type names; other metrics may come along under their own names.
    const isSubject = subject.includes(metric);
    const candidates = isSubject && subject.length === 1 ? [...metric.fields, 'value'] : metric.fields;
    const present = candidates.filter((field) => fields[field] !== undefined && fields[field] !== null);
    const [field, second] = present;
    if (field === undefined) continue;
    if (second !== undefined) {
      throw new MessageRejected('invalid_payload', `${field} and ${second} both give ${metric.metricType}.`);
    }
    used.add(field);
    values.push({ metric, ...readValue(fields[field], field, metric, isSubject ? unit : undefined) });
  }
  if (!values.some(({ metric }) => subject.includes(metric))) {
    throw new MessageRejected('invalid_payload', `There is no value for ${named}.`);
  }
  requireSystolicAboveDiastolic(values);
  const besides = collectBesides(fields, used);
  return values.map(({ metric, value, original }) => ({
    deviceId: device.deviceId,
    metricType: metric.metricType,
    value,
    unit: metric.unit,
    timestamp,
    metadata: original === undefined ? besides : { ...besides, original },
    receivedAt,
  }));
}

/** The metrics a metric_type names: one, or the members of a panel. */
function namedMetrics(named: string, metrics: readonly Metric[], device: Device): readonly Metric[] {
  const panel = PANELS.find(({ name }) => name === named);
  const found = metrics.filter((metric) =>
    panel ? panel.members.includes(metric.metricType) : metric.fields.includes(named),
  );
  if (found.length === 0)
    throw new MessageRejected('unsupported_metric', `A ${device.type} does not measure that metric_type.`);
  return found;
}

function readValue(
  value: unknown,
  field: string,
  metric: Metric,
  unit: unknown,
): { value: number; original: { value: number; unit: string } | undefined } {
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

function decodeWaveform(fields: JsonObject, timestamp: string, device: Device, receivedAt: Date): Waveform {
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
  const besides = collectBesides(fields, WAVEFORM_FIELDS);
  const { code } = toCanonical(0, ECG, unit);
  return {
    deviceId: device.deviceId,
    lead,
    samplingRate,
    unit: ECG.unit,
    samples: converted,
    timestamp,
    metadata: code === ECG.unit ? besides : { ...besides, original: { unit } },
    receivedAt,
  };
}

/** What a message says besides its measurements, its own `metadata` object merged in. */
function collectBesides(fields: JsonObject, used: ReadonlySet<string>): JsonObject {
  const { metadata } = fields;
  const extra = Object.fromEntries(
    Object.entries(fields).filter(([field]) => !used.has(field) && field !== 'readings'),
  );
  if (metadata === undefined || metadata === null) return extra;
  return typeof metadata === 'object' && !Array.isArray(metadata)
    ? { ...extra, ...metadata }
    : { ...extra, metadata };
}
