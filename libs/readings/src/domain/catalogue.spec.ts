import type { DeviceType } from '#devices';
import { CATALOGUE, ECG, expandMetricTypes, PANELS, type Metric } from './catalogue.js';
import { ucumCode } from './units.js';

const everyMetric: [DeviceType, Metric][] = Object.entries(CATALOGUE).flatMap(([type, metrics]) =>
  metrics.map((metric): [DeviceType, Metric] => [type as DeviceType, metric]),
);

/** How a metric's other units convert. */
function conversions(type: DeviceType, metricType: string): Metric['accepts'] {
  return CATALOGUE[type].find((metric) => metric.metricType === metricType)?.accepts ?? {};
}

describe('the clinical catalogue', () => {
  // clinical-metrics.md, line by line.
  it.each<[DeviceType, string, string[], string, number, number]>([
    ['blood_pressure_monitor', 'systolic', [], 'mm[Hg]', 30, 300],
    ['blood_pressure_monitor', 'diastolic', [], 'mm[Hg]', 20, 200],
    ['blood_pressure_monitor', 'mean_arterial_pressure', ['map'], 'mm[Hg]', 20, 250],
    ['blood_pressure_monitor', 'heart_rate', ['pulse'], '/min', 20, 300],
    ['glucose_meter', 'glucose', [], 'mg/dL', 10, 1_000],
    ['pulse_oximeter', 'spo2', ['oxygen_saturation'], '%', 40, 100],
    ['pulse_oximeter', 'heart_rate', ['pulse_rate'], '/min', 20, 300],
    ['pulse_oximeter', 'perfusion_index', [], '%', 0, 30],
    ['ecg_monitor', 'heart_rate', [], '/min', 20, 300],
    ['weight_scale', 'weight', [], 'kg', 0.2, 650],
    ['weight_scale', 'bmi', [], 'kg/m2', 5, 150],
    ['weight_scale', 'body_fat', [], '%', 1, 75],
    ['temperature_sensor', 'body_temperature', ['temperature'], 'Cel', 25, 45],
  ])('%s: %s', (type, metricType, aliases, unit, low, high) => {
    expect(CATALOGUE[type]).toContainEqual({
      metricType,
      fields: [metricType, ...aliases],
      unit,
      accepts: expect.any(Object),
      plausible: { low, high },
    });
  });

  it.each<[DeviceType, string, string, number, number]>([
    ['blood_pressure_monitor', 'systolic', 'kPa', 16, 120.01],
    ['blood_pressure_monitor', 'diastolic', 'kPa', 10.67, 80.03],
    ['blood_pressure_monitor', 'mean_arterial_pressure', 'kPa', 12.4, 93.01],
    ['glucose_meter', 'glucose', 'mmol/L', 5.5, 99.09],
    ['weight_scale', 'weight', 'g', 70_500, 70.5],
    ['weight_scale', 'weight', '[lb_av]', 154.32, 70],
    ['temperature_sensor', 'body_temperature', '[degF]', 98.6, 37],
    ['temperature_sensor', 'body_temperature', '[degF]', 32, 0],
  ])('%s: %s in %s: %d is %d', (type, metricType, unit, value, canonical) => {
    expect(conversions(type, metricType)[unit]?.(value)).toBeCloseTo(canonical, 2);
  });

  it('converts microvolts of a waveform', () => {
    expect(ECG.accepts['uV']?.(1_250)).toBeCloseTo(1.25, 9);
  });

  it('accepts no other units than these', () => {
    const accepted = everyMetric.flatMap(([, metric]) =>
      Object.keys(metric.accepts).map((unit) => `${metric.metricType} ${unit}`),
    );
    expect(accepted).toEqual([
      'systolic kPa',
      'diastolic kPa',
      'mean_arterial_pressure kPa',
      'glucose mmol/L',
      'weight g',
      'weight [lb_av]',
      'body_temperature [degF]',
    ]);
  });

  it.each(
    everyMetric.map(([type, { metricType, unit, accepts }]) => ({
      type,
      metricType,
      units: [unit, ...Object.keys(accepts)],
    })),
  )('$type: every unit of $metricType can be written', ({ units }) => {
    expect(units.map(ucumCode)).toEqual(units);
  });

  it.each(Object.entries(CATALOGUE).map(([type, metrics]) => ({ type, metrics })))(
    '$type: no field stands for two metrics',
    ({ metrics }) => {
      const fields = metrics.flatMap((metric) => metric.fields);
      expect(new Set(fields).size).toBe(fields.length);
    },
  );
});

describe('expandMetricTypes', () => {
  it.each([
    [['blood_pressure'], ['systolic', 'diastolic', 'mean_arterial_pressure']],
    [
      ['heart_rate', 'blood_pressure'],
      ['heart_rate', 'systolic', 'diastolic', 'mean_arterial_pressure'],
    ],
    [
      ['spo2', 'unknown'],
      ['spo2', 'unknown'],
    ],
    [[], []],
  ])('%j -> %j', (names, metricTypes) => {
    expect(expandMetricTypes(names)).toEqual(metricTypes);
  });

  it('expands panels to metrics that are stored', () => {
    const stored = everyMetric.map(([, metric]) => metric.metricType);
    expect(stored).toEqual(expect.arrayContaining(PANELS.flatMap((panel) => panel.members)));
  });
});
