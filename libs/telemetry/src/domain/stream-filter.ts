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

/** All that {@link mayHear} goes by: the same for whoever may hear the same. */
export function reachOf(principal: Principal): string {
  const { tenant, patientId } = principal;
  return JSON.stringify([tenant, patientId, principal.has('commands:read'), principal.has('admin')]);
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

/** The names by which a data event's measurement can be asked for; of other events, none. */
export function measuredBy(event: DomainEvent): ReadonlySet<string> {
  const names = new Set<string>();
  if (event.type !== 'device.data.received') return names;
  const { metric_type: named, readings } = event.data;
  if (typeof named === 'string') names.add(named);
  if (Array.isArray(readings))
    for (const { metric_type } of readings as readonly { metric_type: string }[]) names.add(metric_type);
  return names;
}

function measures(event: DomainEvent, wanted: ReadonlySet<string>): boolean {
  for (const name of measuredBy(event)) if (wanted.has(name)) return true;
  return false;
}
