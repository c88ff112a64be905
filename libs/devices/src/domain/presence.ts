import { MessageRejected, requireTimestamp } from '#kernel';
import type { Presence } from './device.js';

/** What a device, or its will, says of itself. */
export interface StatusReport {
  readonly status: 'online' | 'offline';
  readonly battery: number | null;
  readonly signalStrength: number | null;
  readonly session: string | null;
}

export type PresenceChange = 'connected' | 'disconnected' | null;

const MAX_SESSION_LENGTH = 255;

/**
 * Reads a status payload (contract, "MQTT").
 * @throws MessageRejected invalid_payload, timestamp_in_future, or value_out_of_range for an impossible battery or
 * signal.
 */
export function readStatusReport(payload: Readonly<Record<string, unknown>>, receivedAt: Date): StatusReport {
  const { status, session } = payload;
  requireTimestamp(payload['timestamp'], receivedAt);
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
    battery: readNumber(payload, 'battery', 0, 100),
    signalStrength: readNumber(payload, 'signal_strength', -200, 200),
  };
}

function readNumber(
  payload: Readonly<Record<string, unknown>>,
  field: string,
  low: number,
  high: number,
): number | null {
  const value = payload[field];
  if (value === undefined || value === null) return null;
  if (typeof value !== 'number') throw new MessageRejected('invalid_payload', `${field} is not a number.`);
  if (!(value >= low && value <= high)) {
    throw new MessageRejected('value_out_of_range', `${field} is not between ${low} and ${high}.`);
  }
  return Math.round(value);
}

/**
 * Takes a status report in. An offline report of another session than the current one is that session's late
 * will, and changes nothing; without sessions the last report to arrive holds.
 */
export function report(
  presence: Presence,
  message: StatusReport,
  at: Date,
): { presence: Presence; change: PresenceChange } {
  if (message.status === 'offline') {
    const foreign =
      message.session !== null && presence.session !== null && message.session !== presence.session;
    if (foreign && presence.status === 'online') return { presence, change: null };
    return {
      presence: { ...measured(presence, message), status: 'offline', connectedSince: null, session: null },
      change: presence.status === 'online' ? 'disconnected' : null,
    };
  }
  const fresh =
    presence.status !== 'online' || (message.session !== null && message.session !== presence.session);
  return {
    presence: {
      ...measured(presence, message),
      status: 'online',
      lastSeen: later(presence.lastSeen, at),
      connectedSince: fresh ? at : presence.connectedSince,
      session: message.session ?? presence.session,
    },
    change: presence.status === 'online' ? null : 'connected',
  };
}

/** Data counts as a sign of life. */
export function seen(presence: Presence, at: Date): { presence: Presence; change: PresenceChange } {
  const online = presence.status === 'online';
  return {
    presence: {
      ...presence,
      status: 'online',
      lastSeen: later(presence.lastSeen, at),
      connectedSince: online ? presence.connectedSince : at,
    },
    change: online ? null : 'connected',
  };
}

function measured(presence: Presence, message: StatusReport): Presence {
  return {
    ...presence,
    battery: message.battery ?? presence.battery,
    signalStrength: message.signalStrength ?? presence.signalStrength,
  };
}

function later(a: Date | null, b: Date): Date {
  return a !== null && a > b ? a : b;
}
