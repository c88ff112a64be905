import type { DeviceType } from '#devices';
import {
  celsiusOfFahrenheit,
  kgOfGram,
  kgOfPound,
  mgPerDlOfMmolPerL,
  mmHgOfKPa,
  mVOfMicrovolt,
} from './units.js';

/** A range with both ends included. */
interface Range {
  readonly low: number;
  readonly high: number;
}

/** One thing a device measures. */
export interface Metric {
  /** As stored in `device_readings.metric_type`. */
  readonly metricType: string;
  /** Payload fields it may arrive in; also accepted as `metric_type`. */
  readonly fields: readonly string[];
  /** Canonical unit, a UCUM code. */
  readonly unit: string;
  /** Other accepted units (UCUM codes) and how they convert to the canonical one. */
  readonly accepts: Readonly<Record<string, (value: number) => number>>;
  /** Outside it no living patient and no working device is: such a message is quarantined. */
  readonly plausible: Range;
}

/** A name that stands for several metrics measured together. */
export interface Panel {
  readonly name: string;
  readonly members: readonly string[];
}

const none = {};
const kPa = { kPa: mmHgOfKPa };

function metric(
  metricType: string,
  aliases: readonly string[],
  unit: string,
  accepts: Metric['accepts'],
  low: number,
  high: number,
): Metric {
  return { metricType, fields: [metricType, ...aliases], unit, accepts, plausible: { low, high } };
}

const heartRate = (...aliases: string[]): Metric => metric('heart_rate', aliases, '/min', none, 20, 300);

/** The clinical metric catalogue: the one table behind decoding, units and validation. */
export const CATALOGUE: Readonly<Record<DeviceType, readonly Metric[]>> = {
  blood_pressure_monitor: [
    metric('systolic', [], 'mm[Hg]', kPa, 30, 300),
    metric('diastolic', [], 'mm[Hg]', kPa, 20, 200),
    metric('mean_arterial_pressure', ['map'], 'mm[Hg]', kPa, 20, 250),
    heartRate('pulse'),
  ],
  glucose_meter: [metric('glucose', [], 'mg/dL', { 'mmol/L': mgPerDlOfMmolPerL }, 10, 1_000)],
  pulse_oximeter: [
    metric('spo2', ['oxygen_saturation'], '%', none, 40, 100),
    heartRate('pulse_rate'),
    metric('perfusion_index', [], '%', none, 0, 30),
  ],
  ecg_monitor: [heartRate()],
  weight_scale: [
    metric('weight', [], 'kg', { g: kgOfGram, '[lb_av]': kgOfPound }, 0.2, 650),
    metric('bmi', [], 'kg/m2', none, 5, 150),
    metric('body_fat', [], '%', none, 1, 75),
  ],
  temperature_sensor: [
    metric('body_temperature', ['temperature'], 'Cel', { '[degF]': celsiusOfFahrenheit }, 25, 45),
  ],
};

export const PANELS: readonly Panel[] = [
  { name: 'blood_pressure', members: ['systolic', 'diastolic', 'mean_arterial_pressure'] },
];

/** What a waveform must satisfy. */
export const ECG = {
  deviceType: 'ecg_monitor',
  metricType: 'ecg',
  unit: 'mV',
  accepts: { uV: mVOfMicrovolt } as Metric['accepts'],
  amplitude: { low: -10, high: 10 },
  samplingRate: { low: 50, high: 2_000 },
  leads: ['I', 'II', 'III', 'aVR', 'aVL', 'aVF', 'V1', 'V2', 'V3', 'V4', 'V5', 'V6'],
} as const;

/** What could be the name of a metric or panel, known or not. */
export const METRIC_NAME_PATTERN = '[a-z][a-z0-9_]{0,99}';

/** The stored metric types a filter names: a panel expands to its members, a metric to itself. */
export function expandMetricTypes(names: readonly string[]): readonly string[] {
  return names.flatMap((name) => PANELS.find((panel) => panel.name === name)?.members ?? [name]);
}
