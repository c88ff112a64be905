import { announce, end, endAll, isAfter, openSession, SAME_MS, type SessionNote } from './sessions.js';
import { credible, type StatusReport } from './status-report.js';

/** inactive: never seen. */
export const DEVICE_STATUSES = ['inactive', 'online', 'offline'] as const;
export type DeviceStatus = (typeof DEVICE_STATUSES)[number];

/** Why a device's connection is taken to have begun or ended. */
export const CONNECTION_CAUSES = [
  'status',
  'will',
  'data',
  'timeout',
  'credentials',
  'decommissioned',
] as const;
export type ConnectionCause = (typeof CONNECTION_CAUSES)[number];

/** What is known of a device's connection. */
export interface Presence {
  readonly status: DeviceStatus;
  readonly lastSeen: Date | null;
  readonly lastDataAt: Date | null;
  readonly connectedSince: Date | null;
  /** The device's own name for its current connection, if it gives one. */
  readonly session: string | null;
  /** Percent. */
  readonly battery: number | null;
  /** dBm. */
  readonly signalStrength: number | null;
  readonly memory: PresenceMemory;
}

/** What has to be remembered to tell a late message from a new one. Kept as JSON. */
export interface PresenceMemory {
  readonly sessions: readonly SessionNote[];
  /** The newest date a status message has borne, in milliseconds since 1970. */
  readonly dated: number | null;
  /** When the message came that said it was offline: data received before says nothing of after. */
  readonly ended: number | null;
  /** The last status messages, by name: a broker may deliver them again. */
  readonly heard: readonly string[];
  /** Since when its battery is low, and what it had then; null while it is not. */
  readonly lowBattery: LowBatteryNote | null;
  /** When it last became low: no two discharges bear the same date. */
  readonly lastLow: number | null;
  /** Discharges that have not been told of yet. */
  readonly untoldLow: readonly LowBatteryNote[];
}

/** A battery has become low. Times are milliseconds since 1970. */
export interface LowBatteryNote {
  readonly since: number;
  readonly percent: number;
}

export const NOTHING_REMEMBERED: PresenceMemory = {
  sessions: [],
  dated: null,
  ended: null,
  heard: [],
  lowBattery: null,
  lastLow: null,
  untoldLow: [],
};

/** A device's connection has begun or ended. */
export interface StatusChange {
  readonly status: 'online' | 'offline';
  readonly cause: ConnectionCause;
  /** When that was found out. */
  readonly at: Date;
  readonly session: string | null;
  readonly battery: number | null;
  readonly signalStrength: number | null;
  /** The last sign of life, when it was found out. */
  readonly lastSeen: Date | null;
}

export interface Outcome {
  readonly presence: Presence;
  /** Null: it is there, or away, as before. */
  readonly change: StatusChange | null;
}

const MAX_HEARD = 8;

/**
 * Takes a status report in. The rules, in their order:
 *
 * 1. What the broker had retained brings no device online. It takes one offline only by the name of the session that the
 *    device is in, or by a date newer than all others.
 * 2. Where a session is named: a device is online while a session that was announced has not ended. An offline message
 *    ends its own session and no other. An online message is late, and changes nothing, when its session has ended or
 *    a newer one has begun. Which of two is the newer one, dates tell; then numbers that count up at the end of their
 *    names; then the order of arrival, where they were announced more than 10 s apart. Of two that nothing tells apart
 *    neither ends the other, so that both have to end. A session that ended may begin again while it is the last one.
 *    One that was judged late is there after all when it says something newer than all others have said, or goes on
 *    10 s after the last word of the others, all of which have ended.
 * 3. Where no session is named: a message dated a second or more before the newest is late, and changes nothing. The
 *    order of arrival counts between others.
 * 4. What may have waited at the broker while others were given what came after it undoes no end that was heard, whether
 *    of its session or of whatever there was, unless its date is a second or more after that. A new session does.
 * 5. Battery and signal are taken from online messages, unless their session has said something newer; from an offline message, which may be a will written long
 *    before, only with a date newer than all others.
 */
export function report(presence: Presence, message: StatusReport, at: Date): Outcome {
  if (message.retained && message.status === 'online') return { presence, change: null };
  const { session } = message;
  if (message.status === 'online') {
    return session === null
      ? onlineAnonymously(presence, message, at)
      : online(presence, message, session, at);
  }
  return session === null
    ? offlineAnonymously(presence, message, at)
    : offline(presence, message, session, at);
}

/** When data came; what its device's clock said, where it may have waited while others were heard. */
export interface Sighting {
  readonly at: Date;
  readonly waited: { readonly said: Date | null } | null;
}

/** One for two of one device: what came in its order says more than what may have waited. */
export function both(first: Sighting | undefined, next: Sighting): Sighting {
  if (!first || !next.waited) return next;
  if (!first.waited) return first;
  const [a, b] = [first.waited.said, next.waited.said];
  return { at: next.at, waited: { said: a && b ? later(a, b) : (a ?? b) } };
}

/**
 * Data counts as a sign of life, unless it came before the device was said to be offline, or may have.
 * Data counts as data all the same.
 */
export function seen(presence: Presence, { at, waited }: Sighting): Outcome {
  const { ended } = presence.memory;
  const after = { ...presence, lastDataAt: later(presence.lastDataAt, at) };
  const said = waited?.said ? credible(waited.said.getTime(), at) : null;
  const sign = { dated: millis(said), mayHaveWaited: waited !== null };
  if (presence.status !== 'online' && ended !== null && (at.getTime() <= ended || !isAfter(sign, ended)))
    return { presence: after, change: null };
  return begun({ ...after, lastSeen: later(presence.lastSeen, at) }, presence.session, at, 'data');
}

/** Ends whatever session there is, at the wish of a person. */
export function cutOff(presence: Presence, at: Date, cause: ConnectionCause): Outcome {
  const memory = { ...presence.memory, sessions: endAll(presence.memory.sessions, at.getTime()) };
  return ended({ ...presence, memory }, at, cause);
}

/** Has this message been taken in before? Only asked of those that the broker may have delivered before. */
export function hasHeard({ memory }: Presence, messageName: string): boolean {
  return memory.heard.includes(messageName);
}

/** Remembers a message. */
export function havingHeard(presence: Presence, messageName: string): Presence {
  const heard = [...presence.memory.heard, messageName].slice(-MAX_HEARD);
  return { ...presence, memory: { ...presence.memory, heard } };
}

function online(presence: Presence, message: StatusReport, session: string, at: Date): Outcome {
  const { notes, isThere } = announce(presence.memory.sessions, session, {
    at: at.getTime(),
    dated: millis(message.dated),
    mayHaveWaited: message.mayHaveWaited,
  });
  const noted = dated({ ...presence, memory: { ...presence.memory, sessions: notes } }, message);
  if (!isThere) return { presence: noted, change: null };
  const said = presence.memory.sessions.find(({ name }) => name === session)?.dated ?? null;
  const isOlder = message.dated !== null && said !== null && message.dated.getTime() < said;
  const there = { ...(isOlder ? noted : measured(noted, message)), lastSeen: later(presence.lastSeen, at) };
  return begun(there, openSession(notes)?.name ?? session, at, 'status');
}

function onlineAnonymously(presence: Presence, message: StatusReport, at: Date): Outcome {
  const { ended } = presence.memory;
  const mayBeOfBefore =
    presence.status !== 'online' &&
    ended !== null &&
    !isAfter({ dated: millis(message.dated), mayHaveWaited: message.mayHaveWaited }, ended);
  if (isLate(presence, message) || mayBeOfBefore) return { presence, change: null };
  const there = { ...measured(dated(presence, message), message), lastSeen: later(presence.lastSeen, at) };
  return begun(there, presence.session, at, 'status');
}

function offline(presence: Presence, message: StatusReport, session: string, at: Date): Outcome {
  const named = presence.memory.sessions.find(({ name }) => name === session);
  if (message.retained && named?.state !== 'open' && !isNewest(presence, message))
    return { presence, change: null };
  const { notes, isNews } = end(presence.memory.sessions, session, millis(message.dated), at.getTime());
  const cause = causeOf(message, named?.dated ?? null);
  const noted = lastWords({ ...presence, memory: { ...presence.memory, sessions: notes } }, message);
  if (!isNews || (!named && presence.session === null && isLate(presence, message)))
    return { presence: noted, change: null };
  const other = openSession(notes);
  if (!other) return ended(noted, at, cause);
  const moved = other.name !== presence.session && presence.status === 'online';
  return {
    presence: { ...noted, session: other.name, ...(moved && { connectedSince: new Date(other.since) }) },
    change: null,
  };
}

function offlineAnonymously(presence: Presence, message: StatusReport, at: Date): Outcome {
  const ignored = message.retained ? !isNewest(presence, message) : isLate(presence, message);
  if (ignored) return { presence, change: null };
  const memory = { ...presence.memory, sessions: endAll(presence.memory.sessions, at.getTime()) };
  const cause = causeOf(message, presence.memory.dated);
  return ended(lastWords({ ...presence, memory }, message), at, cause);
}

/** A will is written when its session begins; what a device says of its own accord is dated after all it said before. */
function causeOf({ will, dated: date }: StatusReport, newest: number | null): ConnectionCause {
  return will || (date !== null && newest !== null && date.getTime() <= newest) ? 'will' : 'status';
}

function begun(presence: Presence, session: string | null, at: Date, cause: ConnectionCause): Outcome {
  const wasThere = presence.status === 'online';
  const isSame = wasThere && (session === presence.session || session === null);
  const there: Presence = {
    ...presence,
    status: 'online',
    session,
    connectedSince: isSame ? presence.connectedSince : at,
    // What ends it next may be silence, which every sign of life undoes.
    memory: { ...presence.memory, ended: wasThere ? presence.memory.ended : null },
  };
  return { presence: there, change: wasThere ? null : changeOf(there, 'online', at, cause) };
}

function ended(presence: Presence, at: Date, cause: ConnectionCause): Outcome {
  const { session, memory } = presence;
  const away: Presence = {
    ...presence,
    status: presence.status === 'inactive' && cause !== 'status' && cause !== 'will' ? 'inactive' : 'offline',
    connectedSince: null,
    session: null,
    memory: { ...memory, ended: Math.max(memory.ended ?? 0, at.getTime()) },
  };
  if (presence.status !== 'online') return { presence: away, change: null };
  return { presence: away, change: changeOf({ ...away, session }, 'offline', at, cause) };
}

function changeOf(
  { session, battery, signalStrength, lastSeen }: Presence,
  status: StatusChange['status'],
  at: Date,
  cause: ConnectionCause,
): StatusChange {
  return { status, cause, at, session, battery, signalStrength, lastSeen };
}

function isLate({ memory }: Presence, { dated: date }: StatusReport): boolean {
  return date !== null && memory.dated !== null && date.getTime() <= memory.dated - SAME_MS;
}

function isNewest({ memory }: Presence, { dated: date }: StatusReport): boolean {
  return date !== null && memory.dated !== null && date.getTime() > memory.dated;
}

function lastWords(presence: Presence, message: StatusReport): Presence {
  return dated(isNewest(presence, message) ? measured(presence, message) : presence, message);
}

function dated(presence: Presence, message: StatusReport): Presence {
  const date = millis(message.dated);
  const { memory } = presence;
  if (date === null || (memory.dated !== null && memory.dated >= date)) return presence;
  return { ...presence, memory: { ...memory, dated: date } };
}

function measured(presence: Presence, message: StatusReport): Presence {
  return {
    ...presence,
    battery: message.battery ?? presence.battery,
    signalStrength: message.signalStrength ?? presence.signalStrength,
  };
}

function millis(date: Date | null): number | null {
  return date === null ? null : date.getTime();
}

function later(a: Date | null, b: Date): Date {
  return a !== null && a > b ? a : b;
}
