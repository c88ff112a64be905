import fc from 'fast-check';
import { MessageRejected, parseInstant, type RejectionReason } from '#kernel';
import type { DeviceIdentity, DeviceType } from '#devices';
import { CATALOGUE, ECG } from '#readings';
import { decodeMessage, isDated, type Measurement } from './decode.js';

type Payload = Readonly<Record<string, unknown>>;

const RECEIVED = new Date('2024-01-23T10:31:00.000Z');

function device(type: DeviceType): DeviceIdentity {
  return {
    deviceId: 'device_123',
    tenant: 'default',
    patientId: 1,
    patientSince: null,
    type,
    decommissionedAt: null,
  };
}

const decode = (type: DeviceType, payload: Payload): readonly Measurement[] =>
  decodeMessage(payload, device(type), RECEIVED);

/** The values a message comes to, by metric. */
function values(type: DeviceType, payload: Payload): Record<string, number> {
  const readings = decode(type, payload).flatMap((measurement) => measurement.readings);
  return Object.fromEntries(readings.map(({ metricType, value }) => [metricType, value]));
}

/** Metadata of a message's only reading. */
function metadata(type: DeviceType, payload: Payload): unknown {
  const [reading, second] = decode(type, payload).flatMap((measurement) => measurement.readings);
  expect(second).toBeUndefined();
  return reading?.metadata;
}

/** Why a message is rejected; null when it is taken. */
function rejection(type: DeviceType, payload: Payload): RejectionReason | null {
  try {
    decode(type, payload);
    return null;
  } catch (error) {
    if (error instanceof MessageRejected) return error.reason;
    throw error;
  }
}

const SEED = {
  device_id: 'device_123',
  metric_type: 'blood_pressure',
  systolic: 120,
  diastolic: 80,
  heart_rate: 72,
  timestamp: '2024-01-23T10:30:00Z',
};
const TEMPERATURE = { metric_type: 'body_temperature', value: 36.6 };
const ECG_SEGMENT = {
  metric_type: 'ecg',
  lead: 'II',
  sampling_rate: 250,
  unit: 'mV',
  samples: [0.1, -0.2, 1.2],
  timestamp: '2024-01-23T10:30:00Z',
};

describe('a data message', () => {
  it("is decoded, the seed's as written", () => {
    const common = {
      deviceId: 'device_123',
      timestamp: '2024-01-23T10:30:00.000Z',
      metadata: {},
      receivedAt: RECEIVED,
    };
    expect(decode('blood_pressure_monitor', SEED)).toEqual([
      {
        metricType: 'blood_pressure',
        timestamp: '2024-01-23T10:30:00.000Z',
        payload: SEED,
        readings: [
          { ...common, metricType: 'systolic', value: 120, unit: 'mm[Hg]' },
          { ...common, metricType: 'diastolic', value: 80, unit: 'mm[Hg]' },
          { ...common, metricType: 'heart_rate', value: 72, unit: '/min' },
        ],
        waveform: null,
      },
    ]);
  });

  it.each<[DeviceType, Payload, Record<string, number>]>([
    [
      'blood_pressure_monitor',
      { metric_type: 'blood_pressure', systolic: 120, diastolic: 80, map: 93, pulse: 72 },
      { systolic: 120, diastolic: 80, mean_arterial_pressure: 93, heart_rate: 72 },
    ],
    ['blood_pressure_monitor', { metric_type: 'systolic', value: 120, unit: 'mmHg' }, { systolic: 120 }],
    ['blood_pressure_monitor', { metric_type: 'heart_rate', value: 72, unit: 'bpm' }, { heart_rate: 72 }],
    ['glucose_meter', { metric_type: 'glucose', value: 99 }, { glucose: 99 }],
    ['glucose_meter', { metric_type: 'glucose', glucose: 99, unit: 'mg/dl' }, { glucose: 99 }],
    [
      'pulse_oximeter',
      { metric_type: 'spo2', value: 97, pulse_rate: 64, perfusion_index: 1.4 },
      { spo2: 97, heart_rate: 64, perfusion_index: 1.4 },
    ],
    ['pulse_oximeter', { metric_type: 'spo2', oxygen_saturation: 97, unit: '%' }, { spo2: 97 }],
    ['ecg_monitor', { metric_type: 'heart_rate', value: 61 }, { heart_rate: 61 }],
    [
      'weight_scale',
      { metric_type: 'weight', value: 70.5, unit: 'kg', bmi: 22.4, body_fat: 18 },
      { weight: 70.5, bmi: 22.4, body_fat: 18 },
    ],
    ['temperature_sensor', { metric_type: 'temperature', temperature: 36.6 }, { body_temperature: 36.6 }],
    [
      'temperature_sensor',
      { metric_type: 'body_temperature', value: 36.6, unit: '°C' },
      { body_temperature: 36.6 },
    ],
  ])('of a %s: %j', (type, payload, expected) => {
    expect(values(type, payload)).toEqual(expected);
  });

  it.each<[DeviceType, Payload, Record<string, number>]>([
    [
      'blood_pressure_monitor',
      { ...SEED, unit: 'kPa', systolic: 16, diastolic: 10.67 },
      { systolic: 120.01, diastolic: 80.03, heart_rate: 72 },
    ],
    ['glucose_meter', { metric_type: 'glucose', value: 5.5, unit: 'mmol/L' }, { glucose: 99.09 }],
    ['weight_scale', { metric_type: 'weight', value: 154, unit: 'lb' }, { weight: 69.85 }],
    ['weight_scale', { metric_type: 'weight', value: 3_250, unit: 'g' }, { weight: 3.25 }],
    ['temperature_sensor', { metric_type: 'temperature', value: 98.6, unit: '°F' }, { body_temperature: 37 }],
  ])('of a %s is converted: %j', (type, payload, expected) => {
    expect(values(type, payload)).toEqual(expected);
  });

  it.each<[DeviceType, Payload, Payload]>([
    ['temperature_sensor', { value: 98.6, unit: 'degF' }, { original: { value: 98.6, unit: 'degF' } }],
    ['temperature_sensor', { value: 36.666, unit: '°C' }, { original: { value: 36.666, unit: '°C' } }],
    ['temperature_sensor', { value: 36.666 }, { original: { value: 36.666, unit: 'Cel' } }],
    ['temperature_sensor', { value: 36.66, unit: '°C' }, {}],
    ['temperature_sensor', { value: 36.6, unit: null }, {}],
    [
      'temperature_sensor',
      { value: 36.6, site: 'ear', metadata: { firmware: '2.1' } },
      { site: 'ear', firmware: '2.1' },
    ],
    [
      'temperature_sensor',
      { value: 98.6, unit: 'F', metadata: { original: 'forged' } },
      { original: { value: 98.6, unit: 'F' } },
    ],
  ])('of a %s keeps what it says besides: %j -> %j', (type, fields, expected) => {
    expect(metadata(type, { metric_type: 'body_temperature', ...fields })).toEqual(expected);
  });

  it.each([
    [36.666, 36.67],
    [36.664, 36.66],
    [36.005, 36.01],
    [37, 37],
    [44.999, 45],
  ])('%d is stored as %d', (value, stored) => {
    expect(values('temperature_sensor', { metric_type: 'temperature', value })).toEqual({
      body_temperature: stored,
    });
  });

  it('says nothing of the measured value when it is rejected', () => {
    const reject = (): unknown => decode('temperature_sensor', { ...TEMPERATURE, value: 98.765 });
    expect(reject).toThrow('value is not between 25 and 45 Cel.');
  });

  it.each<[RejectionReason, DeviceType, Payload]>([
    ['device_id_mismatch', 'blood_pressure_monitor', { ...SEED, device_id: 'device_124' }],
    ['device_id_mismatch', 'blood_pressure_monitor', { ...SEED, device_id: null }],
    ['invalid_payload', 'blood_pressure_monitor', {}],
    ['invalid_payload', 'blood_pressure_monitor', { systolic: 120, diastolic: 80 }],
    ['invalid_payload', 'blood_pressure_monitor', { ...SEED, metric_type: '' }],
    ['invalid_payload', 'blood_pressure_monitor', { ...SEED, metric_type: ['blood_pressure'] }],
    ['invalid_payload', 'blood_pressure_monitor', { metric_type: 'blood_pressure', heart_rate: 72 }],
    ['invalid_payload', 'blood_pressure_monitor', { metric_type: 'blood_pressure', value: 120 }],
    ['invalid_payload', 'blood_pressure_monitor', { ...SEED, systolic: '120' }],
    ['invalid_payload', 'blood_pressure_monitor', { ...SEED, systolic: null, diastolic: null }],
    ['invalid_payload', 'blood_pressure_monitor', { ...SEED, pulse: 72 }],
    ['invalid_payload', 'glucose_meter', { metric_type: 'glucose', value: 99, glucose: 99 }],
    ['unsupported_metric', 'glucose_meter', { metric_type: 'blood_pressure', systolic: 120, diastolic: 80 }],
    ['unsupported_metric', 'glucose_meter', { metric_type: 'ecg', value: 99 }],
    ['unsupported_metric', 'glucose_meter', { metric_type: 'constructor', value: 99 }],
    ['unsupported_metric', 'glucose_meter', { metric_type: 'value', value: 99 }],
    [
      'invalid_payload',
      'blood_pressure_monitor',
      { metric_type: 'blood_pressure', systolic: 120, diastolic: 80, value: 5 },
    ],
    ['invalid_unit', 'glucose_meter', { metric_type: 'glucose', value: 99, unit: 'kg' }],
    ['invalid_unit', 'glucose_meter', { metric_type: 'glucose', value: 99, unit: 'stone' }],
    ['invalid_unit', 'glucose_meter', { metric_type: 'glucose', value: 99, unit: '' }],
    ['invalid_unit', 'glucose_meter', { metric_type: 'glucose', value: 99, unit: 1 }],
    ['value_out_of_range', 'glucose_meter', { metric_type: 'glucose', value: 9.99 }],
    ['value_out_of_range', 'glucose_meter', { metric_type: 'glucose', value: 1_000.01 }],
    ['value_out_of_range', 'glucose_meter', { metric_type: 'glucose', value: 99, unit: 'mmol/L' }],
    ['value_out_of_range', 'glucose_meter', { metric_type: 'glucose', value: Infinity }],
    ['value_out_of_range', 'glucose_meter', { metric_type: 'glucose', value: Number.NaN }],
    ['value_out_of_range', 'blood_pressure_monitor', { ...SEED, heart_rate: 301 }],
    ['value_out_of_range', 'blood_pressure_monitor', { ...SEED, systolic: 80 }],
    ['value_out_of_range', 'blood_pressure_monitor', { ...SEED, systolic: 70, diastolic: 90 }],
    ['timestamp_in_future', 'blood_pressure_monitor', { ...SEED, timestamp: '2024-01-23T10:36:00.001Z' }],
    ['invalid_payload', 'blood_pressure_monitor', { ...SEED, timestamp: '2024-01-23T10:30:00' }],
    ['invalid_payload', 'blood_pressure_monitor', { ...SEED, timestamp: 1_706_005_800 }],
    ['invalid_payload', 'blood_pressure_monitor', { ...SEED, timestamp: '' }],
  ])('is rejected for %s: %s %j', (reason, type, payload) => {
    expect(rejection(type, payload)).toBe(reason);
  });

  it.each([
    [undefined, RECEIVED.toISOString()],
    [null, RECEIVED.toISOString()],
    ['2024-01-23T10:36:00Z', '2024-01-23T10:36:00.000Z'],
    ['2024-01-23T12:30:00.123456+02:00', '2024-01-23T10:30:00.123456Z'],
    ['1970-01-01T00:00:00Z', '1970-01-01T00:00:00.000Z'],
  ])('with the timestamp %j is dated %s', (timestamp, expected) => {
    const [measurement] = decode('temperature_sensor', {
      ...TEMPERATURE,
      ...(timestamp !== undefined && { timestamp }),
    });
    expect(measurement?.timestamp).toBe(expected);
    expect(measurement?.readings).toEqual([
      expect.objectContaining({ timestamp: expected, receivedAt: RECEIVED }),
    ]);
  });
});

describe('a buffered upload', () => {
  const entry = (value: number, timestamp?: string): Payload => ({
    ...TEMPERATURE,
    value,
    ...(timestamp !== undefined && { timestamp }),
  });

  it('is decoded entry by entry, each with its own time or else that of the upload', () => {
    const readings = [entry(36.6, '2024-01-23T10:00:00Z'), entry(36.7)];
    const decoded = decode('temperature_sensor', { readings, timestamp: '2024-01-23T10:10:00Z' });
    expect(decoded.map(({ timestamp, payload }) => [timestamp, payload])).toEqual([
      ['2024-01-23T10:00:00.000Z', readings[0]],
      ['2024-01-23T10:10:00.000Z', readings[1]],
    ]);
    expect(decoded.flatMap((measurement) => measurement.readings.map(({ value }) => value))).toEqual([
      36.6, 36.7,
    ]);
  });

  it.each<[RejectionReason, unknown]>([
    ['value_out_of_range', [entry(36.6), entry(46)]],
    ['timestamp_in_future', [entry(36.6), entry(36.6, '2024-01-23T10:36:01Z')]],
    ['device_id_mismatch', [entry(36.6), { ...entry(36.6), device_id: 'device_124' }]],
    ['unsupported_metric', [entry(36.6), { metric_type: 'glucose', value: 99 }]],
    ['invalid_payload', [entry(36.6), null]],
    ['invalid_payload', [entry(36.6), [entry(36.6)]]],
    ['invalid_payload', [entry(36.6), { readings: [entry(36.6)] }]],
    ['invalid_payload', []],
    ['invalid_payload', null],
    ['invalid_payload', entry(36.6)],
  ])('is rejected whole for %s: %j', (reason, readings) => {
    expect(rejection('temperature_sensor', { readings })).toBe(reason);
  });

  it.each<Payload>([
    { value: 36.5 },
    { temperature: 36.5 },
    { metric_type: 'body_temperature' },
    { unit: 'Cel' },
    { samples: [1] },
  ])('is rejected with a measurement beside its list, which would be lost: %j', (stray) => {
    expect(rejection('temperature_sensor', { readings: [entry(36.6)], ...stray })).toBe('invalid_payload');
  });

  it('gives each entry what it says of all', () => {
    const [reading] = decode('temperature_sensor', {
      readings: [{ ...entry(36.6), site: 'ear' }],
      battery: 5,
      site: 'arm',
    });
    expect(reading?.readings[0]?.metadata).toEqual({ battery: 5, site: 'ear' });
  });

  it('has 1,000 entries at most', () => {
    const readings = Array.from({ length: 1_001 }, () => entry(36.6));
    expect(rejection('temperature_sensor', { readings })).toBe('invalid_payload');
    expect(decode('temperature_sensor', { readings: readings.slice(1) })).toHaveLength(1_000);
  });
});

describe('an ECG segment', () => {
  it('is decoded', () => {
    expect(decode('ecg_monitor', { ...ECG_SEGMENT, gain: 10 })).toEqual([
      {
        metricType: 'ecg',
        timestamp: '2024-01-23T10:30:00.000Z',
        payload: { ...ECG_SEGMENT, gain: 10 },
        readings: [],
        waveform: {
          deviceId: 'device_123',
          lead: 'II',
          samplingRate: 250,
          unit: 'mV',
          samples: [0.1, -0.2, 1.2],
          timestamp: '2024-01-23T10:30:00.000Z',
          metadata: { gain: 10 },
          receivedAt: RECEIVED,
        },
      },
    ]);
  });

  it('may bring other metrics of the device along', () => {
    const [segment] = decode('ecg_monitor', { ...ECG_SEGMENT, heart_rate: 70 });
    expect(segment?.readings).toMatchObject([{ metricType: 'heart_rate', value: 70, unit: '/min' }]);
    expect(segment?.waveform?.metadata).toEqual({});
    expect(rejection('ecg_monitor', { ...ECG_SEGMENT, heart_rate: 700 })).toBe('value_out_of_range');
    expect(rejection('ecg_monitor', { ...ECG_SEGMENT, value: 70 })).toBe('invalid_payload');
  });

  it.each(['uV', '\u00b5V', '\u03bcV'])('in %s is converted', (unit) => {
    const [segment] = decode('ecg_monitor', { ...ECG_SEGMENT, unit, samples: [1_250, -500] });
    expect(segment?.waveform).toMatchObject({
      unit: 'mV',
      samples: [1.25, -0.5],
      metadata: { original: { unit } },
    });
  });

  it.each<[RejectionReason, DeviceType, Payload]>([
    ['unsupported_metric', 'pulse_oximeter', {}],
    ['invalid_payload', 'ecg_monitor', { lead: 'V7' }],
    ['invalid_payload', 'ecg_monitor', { lead: null }],
    ['invalid_payload', 'ecg_monitor', { sampling_rate: '250' }],
    ['value_out_of_range', 'ecg_monitor', { sampling_rate: 49 }],
    ['value_out_of_range', 'ecg_monitor', { sampling_rate: 2_001 }],
    ['invalid_payload', 'ecg_monitor', { samples: [] }],
    ['invalid_payload', 'ecg_monitor', { samples: 1 }],
    ['invalid_payload', 'ecg_monitor', { samples: [0.1, null] }],
    ['value_out_of_range', 'ecg_monitor', { samples: [0.1, 10.1] }],
    ['value_out_of_range', 'ecg_monitor', { samples: [0.1, Infinity] }],
    ['value_out_of_range', 'ecg_monitor', { samples: [1_250] }],
    ['invalid_unit', 'ecg_monitor', { unit: 'V' }],
    ['timestamp_in_future', 'ecg_monitor', { timestamp: '2024-01-24T00:00:00Z' }],
  ])('is rejected for %s: %s %j', (reason, type, fields) => {
    expect(rejection(type, { ...ECG_SEGMENT, ...fields })).toBe(reason);
  });
});

describe('isDated', () => {
  const dated = { timestamp: '2024-01-23T10:30:00Z' };

  it.each<[Payload, boolean]>([
    [dated, true],
    [{}, false],
    [{ timestamp: null }, false],
    [{ readings: [dated, dated] }, true],
    [{ readings: [dated, {}] }, false],
    [{ readings: [dated, { timestamp: null }] }, false],
    [{ readings: [dated, {}], ...dated }, true],
    [{ readings: [null] }, false],
  ])('%j: %j', (payload, expected) => {
    expect(isDated(payload)).toBe(expected);
  });
});

describe('any JSON object', () => {
  const types = fc.constantFrom(...(Object.keys(CATALOGUE) as DeviceType[]));
  const number = fc.oneof(
    { weight: 4, arbitrary: fc.integer({ min: 20, max: 110 }) },
    {
      weight: 4,
      arbitrary: fc.integer({ min: 20_000, max: 110_000 }).map((thousandths) => thousandths / 1_000),
    },
    { weight: 1, arbitrary: fc.double({ min: -10, max: 700 }) },
    { weight: 1, arbitrary: fc.constantFrom(Infinity, -0, 1e-9, 5e-324) },
  );
  const words = fc.constantFrom(
    'mmHg',
    'kPa',
    '°F',
    'g',
    'lb',
    'mmol/L',
    'uV',
    'II',
    'ecg',
    'blood_pressure',
  );
  const times = fc
    .date({
      min: new Date('2024-01-23T10:20:00Z'),
      max: new Date('2024-01-23T10:40:00Z'),
      noInvalidDate: true,
    })
    .map((date) => date.toISOString());
  const anything = fc.oneof(number, words, times, fc.constant(null), fc.jsonValue({ maxDepth: 2 }));
  const samples = fc.array(fc.oneof({ weight: 9, arbitrary: fc.double({ min: -11, max: 11 }) }, anything));

  /** An entry that often makes sense: a metric of the device, with a number, and then whatever else. */
  const entries = (type: DeviceType): fc.Arbitrary<Payload> => {
    const metrics = CATALOGUE[type];
    const fields = metrics.flatMap((metric) => metric.fields);
    const named = fc.constantFrom(...fields, ...(type === 'ecg_monitor' ? ['ecg'] : ['blood_pressure']));
    const field = fc.constantFrom(
      ...fields,
      'value',
      'unit',
      'timestamp',
      'metadata',
      'lead',
      'device_id',
      'readings',
      'site',
    );
    return fc
      .tuple(
        fc.record(
          {
            metric_type: named,
            value: number,
            timestamp: times,
            lead: words,
            sampling_rate: number,
            samples,
          },
          { requiredKeys: ['metric_type', 'value'] },
        ),
        fc.dictionary(fc.oneof(field, fc.string()), anything, { maxKeys: 2 }),
      )
      .map(([base, more]) => ({ ...base, ...more }));
  };
  const messages = types.chain((type) =>
    fc.tuple(
      fc.constant(type),
      fc.oneof(
        { weight: 6, arbitrary: entries(type) },
        { weight: 2, arbitrary: fc.record({ readings: fc.array(entries(type), { maxLength: 3 }) }) },
        { weight: 1, arbitrary: fc.dictionary(fc.string(), anything) },
      ),
    ),
  );

  it('is either decoded to plausible values the column can hold, or rejected', () => {
    let taken = 0;
    fc.assert(
      fc.property(messages, ([type, payload]) => {
        let measurements: readonly Measurement[];
        try {
          measurements = decode(type, payload);
        } catch (error) {
          if (!(error instanceof MessageRejected)) throw error;
          return;
        }
        taken += 1;
        if (isDated(payload)) {
          const again = decodeMessage(payload, device(type), new Date(RECEIVED.getTime() + 60_000));
          expect(again.map(({ timestamp }) => timestamp)).toEqual(
            measurements.map(({ timestamp }) => timestamp),
          );
        }
        expect(measurements.length).toBeGreaterThan(0);
        for (const { readings, waveform, timestamp } of measurements) {
          expect(readings.length > 0).toBe(waveform === null);
          expect(parseInstant(timestamp)?.epochMs).toBeLessThanOrEqual(RECEIVED.getTime() + 300_000);
          for (const { metricType, value, unit, metadata: besides } of readings) {
            const metric = CATALOGUE[type].find((known) => known.metricType === metricType);
            expect(unit).toBe(metric?.unit);
            expect(value).toBeGreaterThanOrEqual(metric?.plausible.low ?? NaN);
            expect(value).toBeLessThanOrEqual(metric?.plausible.high ?? NaN);
            expect(Number(value.toFixed(2))).toBe(value);
            expect(() => JSON.stringify(besides)).not.toThrow();
          }
          for (const sample of waveform?.samples ?? []) {
            expect(sample).toBeGreaterThanOrEqual(ECG.amplitude.low);
            expect(sample).toBeLessThanOrEqual(ECG.amplitude.high);
          }
        }
      }),
      { numRuns: 500 },
    );
    // Else the property would say nothing.
    expect(taken).toBeGreaterThan(20);
  });
});
