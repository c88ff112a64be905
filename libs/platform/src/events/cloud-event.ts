import { eventDataJson, type DomainEvent } from '#kernel';

/** The URI-reference that names this service as an event's origin (CloudEvents 1.0, "source"). */
const SOURCE = '/mqtt-service';
/** What a reduced event still says: enough to look the rest up. */
const REFERENCES = ['metric_type', 'timestamp', 'command_id', 'reason'];
/** A payload's own field may bear one of these names and be of any length. */
const MAX_REFERENCE_LENGTH = 256;

/**
 * The event as other systems receive it: CloudEvents 1.0, structured JSON mode. `source` and `id` together identify it.
 * Put together as text, because the data is serialised already for whoever else is told.
 */
export function cloudEventJson(event: DomainEvent): string {
  return envelope(event, eventDataJson(event));
}

/**
 * The event without what makes it large: whose it is, the fields by which the rest is found over REST, and its readings
 * where they fit.
 */
export function reducedCloudEventJson(event: DomainEvent, maxBytes: number): string {
  const { data } = event;
  const kept: Record<string, unknown> = { device_id: event.deviceId, patient_id: event.patientId };
  for (const field of REFERENCES) {
    const value = data[field];
    if (typeof value === 'number' || (typeof value === 'string' && value.length <= MAX_REFERENCE_LENGTH))
      kept[field] = value;
  }
  const { readings } = data;
  if (Array.isArray(readings)) {
    const whole = envelope(
      event,
      JSON.stringify({ ...kept, readings: readings as unknown[], truncated: true }),
    );
    if (fits(whole, maxBytes)) return whole;
  }
  return envelope(event, JSON.stringify({ ...kept, truncated: true }));
}

/** Whether a text has no more bytes than that in UTF-8. */
export function fits(text: string, maxBytes: number): boolean {
  // A UTF-16 unit takes 1 to 3 bytes: most texts need not be counted.
  if (text.length > maxBytes) return false;
  return text.length * 3 <= maxBytes || Buffer.byteLength(text) <= maxBytes;
}

function envelope(event: DomainEvent, data: string): string {
  const subject = event.deviceId === null ? '' : `"subject":${JSON.stringify(event.deviceId)},`;
  return (
    `{"specversion":"1.0","id":${JSON.stringify(event.id)},"source":"${SOURCE}","type":"${event.type}",${subject}` +
    `"time":"${event.time}","datacontenttype":"application/json","data":${data}}`
  );
}
