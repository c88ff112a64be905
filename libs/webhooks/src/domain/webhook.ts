import { DEFAULT_TENANT, DomainError, type DomainEvent } from '#kernel';

/** Webhooks of one tenant, at most: each event is held against all of them. */
export const MAX_WEBHOOKS = 200;

/** What a webhook is told of, as its owner wrote it: a list that is null does not narrow it. */
export interface WebhookFilter {
  readonly events: readonly string[] | null;
  readonly deviceIds: readonly string[] | null;
  readonly patientIds: readonly number[] | null;
  readonly metricTypes: readonly string[] | null;
}

/** Why the service itself has switched a webhook off: its receiver is gone (RFC 9110, section 15.5.11). */
export type DisabledReason = 'gone';

/** Where a tenant's events are sent. Its secret is no part of it: whoever shows a webhook has none to show. */
export interface Webhook extends WebhookFilter {
  readonly webhookId: string;
  readonly tenant: string;
  readonly url: string;
  readonly active: boolean;
  readonly disabledReason: DisabledReason | null;
  readonly createdBy: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** What may be changed of a webhook; what is absent stays. */
export type WebhookChange = Partial<WebhookFilter & Pick<Webhook, 'url' | 'active'>>;

/** {@link WebhookFilter}, made to be asked often. */
export interface PreparedFilter {
  readonly events: ReadonlySet<string> | null;
  readonly deviceIds: ReadonlySet<string> | null;
  readonly patientIds: ReadonlySet<number> | null;
  readonly metricTypes: ReadonlySet<string> | null;
}

/**
 * @param expand what a name of a metric stands for besides itself, such as the members of a panel.
 */
export function prepareFilter(
  filter: WebhookFilter,
  expand: (names: readonly string[]) => readonly string[],
): PreparedFilter {
  const setOf = <T>(list: readonly T[] | null): ReadonlySet<T> | null => (list ? new Set(list) : null);
  return {
    events: setOf(filter.events),
    deviceIds: setOf(filter.deviceIds),
    patientIds: setOf(filter.patientIds),
    metricTypes: setOf(filter.metricTypes && [...filter.metricTypes, ...expand(filter.metricTypes)]),
  };
}

/**
 * The tenant whose webhooks may be told of an event: as for tokens, what names none is the default tenant's. Webhooks belong
 * to administrators who are confined to no patient, so nothing else hides an event from them.
 */
export function tenantOf(event: DomainEvent): string {
  return event.tenant ?? DEFAULT_TENANT;
}

/** Whether an event passes, as it would on the WebSocket: metric types narrow data events only. */
export function wants(filter: PreparedFilter, event: DomainEvent): boolean {
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

/** An input of a webhook that can't be used, and why. */
export function unusable(field: string, message: string): DomainError {
  return new DomainError('invalid', 'validation_failed', `Not acceptable: ${field}.`, [{ field, message }]);
}

/** Of a webhook that is not there, or another tenant's. */
export function webhookNotFound(): DomainError {
  return new DomainError('not_found', 'webhook_not_found', 'There is no such webhook.');
}
