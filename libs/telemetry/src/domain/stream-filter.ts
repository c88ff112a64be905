import type { DomainEvent, Principal } from '#kernel';

/** What a watcher wants of the stream; a list that is absent does not narrow it. */
export interface StreamFilter {
  readonly deviceIds?: ReadonlySet<string>;
  readonly patientIds?: ReadonlySet<number>;
  /** Stored metric types, panels expanded, besides the names as given. */
  readonly metricTypes?: ReadonlySet<string>;
  readonly events?: ReadonlySet<string>;
}

/** Everything. */
export const NO_FILTER: StreamFilter = {};

/**
 * May it be told of this? The stream shows nothing that its token could not ask for: commands and rejected messages have
 * scopes of their own, and whose a rejected message is nobody has checked.
 */
export function mayHear(principal: Principal, event: DomainEvent): boolean {
  if (!principal.maySee(event)) return false;
  if (event.type.startsWith('command.')) return principal.has('commands:read');
  if (event.type === 'message.rejected') return principal.has('admin') && principal.patientId === null;
  return true;
}

/** Whether an event passes. Metric types narrow data events only: other events measure nothing. */
export function passes(filter: StreamFilter, event: DomainEvent): boolean {
  if (filter.events && !filter.events.has(event.type)) return false;
  if (filter.deviceIds && (event.deviceId === null || !filter.deviceIds.has(event.deviceId))) return false;
  if (filter.patientIds && (event.patientId === null || !filter.patientIds.has(event.patientId)))
    return false;
  if (filter.metricTypes && event.type === 'device.data.received') return measures(event, filter.metricTypes);
  return true;
}

function measures(event: DomainEvent, wanted: ReadonlySet<string>): boolean {
  const { metric_type: named, readings } = event.data;
  if (typeof named === 'string' && wanted.has(named)) return true;
  return (
    Array.isArray(readings) &&
    (readings as readonly { metric_type: string }[]).some((reading) => wanted.has(reading.metric_type))
  );
}
