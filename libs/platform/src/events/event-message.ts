import type { DomainEvent } from '#kernel';
import { cloudEventJson, fits, reducedCloudEventJson } from './cloud-event.js';

/** No larger than the messages taken in may be, as on the broker. */
const MAX_EVENT_BYTES = 262_144;
/** What a row of the outbox takes besides its text, and what a message takes around it. */
const OVERHEAD_BYTES = 128;

/** An event as it goes out. */
export class EventMessage {
  /** What it takes, in the outbox or on its way. */
  readonly bytes: number;

  /**
   * @param type what consumers know it by: its pattern.
   * @param deviceId what keeps its order: that of its device.
   * @param text the CloudEvent, as JSON.
   */
  constructor(
    readonly type: string,
    readonly deviceId: string | null,
    readonly text: string,
  ) {
    this.bytes = Buffer.byteLength(text) + OVERHEAD_BYTES;
  }

  static of(event: DomainEvent): EventMessage {
    const whole = cloudEventJson(event);
    const text = fits(whole, MAX_EVENT_BYTES) ? whole : reducedCloudEventJson(event, MAX_EVENT_BYTES);
    return new EventMessage(event.type, event.deviceId, text);
  }

  /** The same, or what can be told of it in so many bytes; null where that is still too large. */
  within(maxBytes: number): EventMessage | null {
    if (fits(this.text, maxBytes)) return this;
    const { id, time, data } = JSON.parse(this.text) as Pick<DomainEvent, 'id' | 'time' | 'data'>;
    const { patient_id } = data as { readonly patient_id: number | null };
    const event: DomainEvent = {
      id,
      time,
      data,
      type: this.type as DomainEvent['type'],
      deviceId: this.deviceId,
      patientId: patient_id,
      tenant: null,
    };
    const text = reducedCloudEventJson(event, maxBytes);
    return fits(text, maxBytes) ? new EventMessage(this.type, this.deviceId, text) : null;
  }
}
