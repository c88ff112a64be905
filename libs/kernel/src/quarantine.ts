import type { DomainEvent } from './event-bus.js';
import type { Ownership } from './principal.js';
import type { Transaction } from './unit-of-work.js';

/** Why a message could not be taken in (contract, "MQTT"). */
export const REJECTION_REASONS = [
  'invalid_json',
  'invalid_payload',
  'unknown_device',
  'device_id_mismatch',
  'unsupported_metric',
  'invalid_unit',
  'value_out_of_range',
  'timestamp_in_future',
  'payload_too_large',
  'decommissioned_device',
] as const;
export type RejectionReason = (typeof REJECTION_REASONS)[number];

/**
 * A message breaks a rule. Thrown while it is decoded; it then goes to quarantine whole.
 * `message` names the field and the rule, and no measured value.
 */
export class MessageRejected extends Error {
  constructor(
    readonly reason: RejectionReason,
    message: string,
  ) {
    super(message);
    this.name = 'MessageRejected';
  }
}

/** A message as it is kept in quarantine. */
export interface RejectedMessage {
  /** The same when the same message is delivered again. */
  readonly messageId: string;
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly reason: RejectionReason;
  readonly detail: string;
  /** The device id its topic names, if it is one at all. */
  readonly deviceId: string | null;
  /** The broker had kept it, for how long nobody knows. */
  readonly retained: boolean;
  readonly receivedAt: Date;
}

/** The event that tells of a message in quarantine. @param owner the device's, if it is registered. */
export function messageRejected(message: RejectedMessage, { tenant, patientId }: Ownership): DomainEvent {
  const { messageId: id, topic, reason, detail, deviceId, receivedAt } = message;
  const time = receivedAt.toISOString();
  return { id, type: 'message.rejected', deviceId, tenant, patientId, time, data: { topic, reason, detail } };
}

/** Where messages that can't be taken in are kept whole, for people to look at and to retry. */
export abstract class Quarantine {
  /** Adds messages; one that is there already (by its id) is left alone. */
  abstract add(transaction: Transaction, messages: readonly RejectedMessage[]): Promise<void>;
}
