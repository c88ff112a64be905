import { eventDataJson, type DomainEvent } from '#kernel';

/** The URI-reference that names this service as an event's origin (CloudEvents 1.0, "source"). */
const SOURCE = '/mqtt-service';

/**
 * The event as other systems receive it: CloudEvents 1.0, structured JSON mode. `source` and `id` together identify it.
 * Put together as text, because the data is serialised already for whoever else is told.
 */
export function cloudEventJson(event: DomainEvent): string {
  const subject = event.deviceId === null ? '' : `"subject":${JSON.stringify(event.deviceId)},`;
  return (
    `{"specversion":"1.0","id":${JSON.stringify(event.id)},"source":"${SOURCE}","type":"${event.type}",${subject}` +
    `"time":"${event.time}","datacontenttype":"application/json","data":${eventDataJson(event)}}`
  );
}
