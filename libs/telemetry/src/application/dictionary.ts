import type { DeviceType } from '#devices';
import { CATALOGUE, PANELS, type Metric } from '#readings';

/** What a payload field gives. */
export interface FieldMeaning {
  readonly metric: Metric;
  /** Where the metric stands in the catalogue: the order of a message's readings. */
  readonly position: number;
}

/** The catalogue turned round for reading: what the names in a device type's payloads mean. */
export interface Dictionary {
  readonly fields: ReadonlyMap<string, FieldMeaning>;
  /** What a metric_type names: one metric, or the members of a panel. */
  readonly subjects: ReadonlyMap<string, readonly Metric[]>;
}

function dictionaryOf(metrics: readonly Metric[]): Dictionary {
  const fields = new Map<string, FieldMeaning>();
  const subjects = new Map<string, readonly Metric[]>();
  metrics.forEach((metric, position) => {
    for (const field of metric.fields) {
      fields.set(field, { metric, position });
      subjects.set(field, [metric]);
    }
  });
  for (const { name, members } of PANELS) {
    const present = metrics.filter(({ metricType }) => members.includes(metricType));
    if (present.length > 0) subjects.set(name, present);
  }
  return { fields, subjects };
}

/** One dictionary a device type. */
export const DICTIONARY = Object.fromEntries(
  Object.entries(CATALOGUE).map(([type, metrics]) => [type, dictionaryOf(metrics)]),
) as unknown as Readonly<Record<DeviceType, Dictionary>>;
