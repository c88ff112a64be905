import { eventData, type DomainEvent } from '#kernel';

/** CloudEvents 1.0, structured JSON mode. */
export interface CloudEvent {
  readonly specversion: '1.0';
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly subject?: string;
  readonly time: string;
  readonly datacontenttype: 'application/json';
  readonly data: Readonly<Record<string, unknown>>;
}

/** The URI-reference that names this service as an event's origin (CloudEvents 1.0, "source"). */
const SOURCE = '/mqtt-service';

/** The event as other systems receive it; `source` and `id` together identify it. */
export function toCloudEvent(event: DomainEvent): CloudEvent {
  return {
    specversion: '1.0',
    id: event.id,
    source: SOURCE,
    type: event.type,
    ...(event.deviceId !== null && { subject: event.deviceId }),
    time: event.time,
    datacontenttype: 'application/json',
    data: eventData(event),
  };
}
