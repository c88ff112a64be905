import { MessageRejected, requireTimestamp } from '#kernel';

/** What a device, or its will, says of itself. */
export interface StatusReport {
  readonly status: 'online' | 'offline';
  readonly battery: number | null;
  readonly signalStrength: number | null;
  readonly session: string | null;
  /** When the device said so, by its own clock: null where it does not say, or its clock can't be right. */
  readonly dated: Date | null;
  /** It says itself that it is a will. */
  readonly will: boolean;
  /** The broker had kept it: it says how things were, nobody knows when. */
  readonly retained: boolean;
  /** It may have waited at the broker while others were given what came after it. */
  readonly mayHaveWaited: boolean;
}

const MAX_SESSION_LENGTH = 255;
/** A date further back is that of a clock which was never set; what waited for so long came in its order. */
const MAX_BEHIND_MS = 3_600_000;

const IN_ORDER = { retained: false, mayHaveWaited: false };

/**
 * Reads a status payload (contract, "MQTT").
 * @throws MessageRejected invalid_payload, timestamp_in_future, or value_out_of_range for an impossible battery or
 * signal.
 */
export function readStatusReport(
  payload: Readonly<Record<string, unknown>>,
  receivedAt: Date,
  { retained, mayHaveWaited }: Pick<StatusReport, 'retained' | 'mayHaveWaited'> = IN_ORDER,
): StatusReport {
  const { status, session, timestamp } = payload;
  const time = requireTimestamp(timestamp, receivedAt);
  if (status !== 'online' && status !== 'offline') {
    throw new MessageRejected('invalid_payload', 'status is neither online nor offline.');
  }
  if (
    session !== undefined &&
    session !== null &&
    typeof session !== 'string' &&
    typeof session !== 'number'
  ) {
    throw new MessageRejected('invalid_payload', 'session is neither a text nor a number.');
  }
  const name = session === undefined || session === null ? null : String(session);
  if (name !== null && name.length > MAX_SESSION_LENGTH) {
    throw new MessageRejected('invalid_payload', `session is longer than ${MAX_SESSION_LENGTH} characters.`);
  }
  return {
    status,
    session: name,
    // Down: below a limit in whole percent it must still be below it, and only a full one is full.
    battery: readNumber(payload, 'battery', 0, 100, Math.floor),
    signalStrength: readNumber(payload, 'signal_strength', -200, 200, Math.round),
    dated: timestamp === undefined || timestamp === null ? null : credible(Date.parse(time), receivedAt),
    will: payload['will'] === true,
    retained,
    mayHaveWaited,
  };
}

/** A clock that is ahead must not outrun what the device says once it is set right. Null: it was never set. */
export function credible(given: number, receivedAt: Date): Date | null {
  if (receivedAt.getTime() - given > MAX_BEHIND_MS) return null;
  return new Date(Math.min(given, receivedAt.getTime()));
}

function readNumber(
  payload: Readonly<Record<string, unknown>>,
  field: string,
  low: number,
  high: number,
  whole: (value: number) => number,
): number | null {
  const value = payload[field];
  if (value === undefined || value === null) return null;
  if (typeof value !== 'number') throw new MessageRejected('invalid_payload', `${field} is not a number.`);
  if (!(value >= low && value <= high)) {
    throw new MessageRejected('value_out_of_range', `${field} is not between ${low} and ${high}.`);
  }
  return whole(value);
}
