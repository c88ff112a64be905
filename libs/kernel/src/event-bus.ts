import type { Ownership } from './principal.js';

/** The events other systems may rely on (seed: "Events"; contract: "Events"). */
export const EVENT_TYPES = [
  'device.data.received',
  'device.connected',
  'device.disconnected',
  'device.registered',
  'device.updated',
  'device.decommissioned',
  'device.battery.low',
  'command.queued',
  'command.sent',
  'command.acknowledged',
  'command.completed',
  'command.failed',
  'command.expired',
  'command.cancelled',
  'message.rejected',
] as const;

export type EventType = (typeof EVENT_TYPES)[number];

/**
 * Something that happened and is already committed.
 * `id` is the same when the same cause is processed again, so that receivers can drop repeats.
 */
export interface DomainEvent extends Ownership {
  readonly id: string;
  readonly type: EventType;
  /** The device it is about; for `message.rejected` of a topic that names none, null. */
  readonly deviceId: string | null;
  /** Like the patient, the one the device belonged to when it happened: they decide who may see the event. */
  readonly tenant: string | null;
  readonly patientId: number | null;
  /** When it happened, ISO 8601 in UTC. */
  readonly time: string;
  /**
   * Where its cause stands in the log of the stream, if that was written when it was stored: which run of the service
   * wrote it, which message it is, and which of the message's events. `repeats` is set where it stood there before: then it
   * says which message of this run repeats it.
   */
  readonly logged?:
    | {
        readonly epoch: number;
        readonly place: number;
        readonly index: number;
        readonly repeats?: number | undefined;
      }
    | undefined;
  /** Told of long after it happened, or nobody knows when it did: it says nothing of how things are now. */
  readonly late?: boolean;
  /**
   * Its cause may have waited while others, of after it, were heard: as far as its order is known, its device's clock tells
   * (`said`; null: nothing does).
   */
  readonly waited?: { readonly said: Date | null } | null;
  /** Set when somebody else has told of it meanwhile: what has not been published yet need not be. */
  readonly outdated?: boolean;
  /** snake_case, ready to be serialised. */
  readonly data: Readonly<Record<string, unknown>>;
  /** What {@link eventData} says as JSON, where the event keeps that for all who tell of it. */
  readonly dataJson?: string;
}

/**
 * What an event says, for those outside. Whose it is stands last: a payload's own field of that name must never
 * pass for the patient the device is assigned to.
 */
export function eventData(event: DomainEvent): Readonly<Record<string, unknown>> {
  return { ...event.data, device_id: event.deviceId, patient_id: event.patientId };
}

/** {@link eventData} as JSON. */
export function eventDataJson(event: DomainEvent): string {
  return event.dataJson ?? JSON.stringify(eventData(event));
}

/** A part of the house that wants to hear of events. */
export interface EventSubscriber {
  readonly name: string;
  /** The types it wants; all when absent. */
  readonly types?: readonly EventType[];
  /** Settles once the events are in the subscriber's safe keeping; a rejection means they are not. */
  handle(events: readonly DomainEvent[]): void | Promise<void>;
}

/**
 * How modules tell each other what happened, without knowing each other.
 * It keeps nothing: whoever needs at-least-once awaits {@link publish} before acknowledging its own source.
 */
export class EventBus {
  private readonly subscribers: EventSubscriber[] = [];

  /** @param onFailure hears of {@link announce}d events that a subscriber could not take. */
  constructor(private readonly onFailure: (error: unknown) => void) {}

  /** Adds a subscriber; events reach subscribers in the order of subscription. */
  subscribe(subscriber: EventSubscriber): void {
    this.subscribers.push(subscriber);
  }

  /**
   * Hands events, in their order, to every subscriber that wants them.
   * Resolves when all have taken them. One that fails does not keep the others from theirs;
   * its error is rethrown (an AggregateError where several failed).
   * @param taken who has taken these events; it grows by those who do. With the same set, another attempt reaches only
   * the others.
   */
  async publish(events: readonly DomainEvent[], taken = new Set<EventSubscriber>()): Promise<void> {
    if (events.length === 0) return;
    const pending: Promise<void>[] = [];
    const failures: unknown[] = [];
    for (const subscriber of this.subscribers) {
      if (taken.has(subscriber)) continue;
      const { types } = subscriber;
      const wanted = types ? events.filter((event) => types.includes(event.type)) : events;
      if (wanted.length === 0) continue;
      try {
        const result = subscriber.handle(wanted);
        if (result) pending.push(result.then(() => void taken.add(subscriber)));
        else taken.add(subscriber);
      } catch (error) {
        failures.push(error);
      }
    }
    for (const outcome of await Promise.allSettled(pending)) {
      if (outcome.status === 'rejected') failures.push(outcome.reason);
    }
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new AggregateError(failures, 'several event subscribers failed');
  }

  /** Tells of events whose source does not wait for it, such as a request that should be answered now. */
  announce(events: readonly DomainEvent[]): void {
    this.publish(events).catch(this.onFailure);
  }
}
