/** A moment to the microsecond, PostgreSQL's own precision. */
export interface Instant {
  /** ISO 8601 in UTC, `2024-01-23T10:30:00.000Z`, with six fractional digits where milliseconds don't suffice. */
  readonly iso: string;
  /** Milliseconds since 1970, rounded down. */
  readonly epochMs: number;
}

/** A date that keeps microseconds, as PostgreSQL does: its ISO text has them where there are any. */
export class MicroDate extends Date {
  /** @param micros from 0 to 999, besides the milliseconds. */
  constructor(
    epochMs: number,
    readonly micros: number,
  ) {
    super(epochMs);
  }

  /** @throws RangeError for a text that is no {@link Instant}'s. */
  static of(iso: string): MicroDate {
    const instant = parseInstant(iso);
    if (!instant) throw new RangeError('not an ISO 8601 time');
    return new MicroDate(instant.epochMs, instant.iso.length === 27 ? Number(instant.iso.slice(23, 26)) : 0);
  }

  override toISOString(): string {
    const iso = super.toISOString();
    return this.micros === 0 ? iso : `${iso.slice(0, -1)}${String(this.micros).padStart(3, '0')}Z`;
  }
}

// RFC 3339, section 5.6: an offset is required; without one the moment is a guess.
const RFC3339 =
  /^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?(?:([Zz])|([+-])([01]\d|2[0-3]):?([0-5]\d))$/;

/**
 * Reads an RFC 3339 timestamp with its offset. Digits below a microsecond are cut off.
 * @returns null for anything else, dates that don't exist (30 February) included.
 */
export function parseInstant(text: string): Instant | null {
  return parseCanonical(text) ?? parseAny(text);
}

const ZERO = 0x30;
const DAYS_IN_MONTH = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/**
 * Most devices write UTC with a Z and 0, 3 or 6 digits of a second. Read digit by digit that takes a fifth of the time of
 * `Date.parse`, whose result would have to be written out again to find dates that don't exist.
 */
function parseCanonical(text: string): Instant | null {
  const { length } = text;
  const hasMillis = length === 24 || length === 27;
  if (!(hasMillis || length === 20) || text[length - 1] !== 'Z') return null;
  if (text[4] !== '-' || text[7] !== '-' || text[10] !== 'T' || text[13] !== ':' || text[16] !== ':')
    return null;
  if (hasMillis && text[19] !== '.') return null;
  const year = digits(text, 0, 4);
  const month = digits(text, 5, 7);
  const day = digits(text, 8, 10);
  const hour = digits(text, 11, 13);
  const minute = digits(text, 14, 16);
  const second = digits(text, 17, 19);
  const millis = hasMillis ? digits(text, 20, 23) : 0;
  const micros = length === 27 ? digits(text, 23, 26) : 0;
  // Date.UTC takes a year below 100 for one of the twentieth century. What is no number fails each comparison.
  if (!(year >= 100 && month >= 1 && month <= 12 && day >= 1 && day <= daysIn(year, month))) return null;
  if (!(hour < 24 && minute < 60 && second < 60 && millis < 1_000 && micros < 1_000)) return null;
  const epochMs = Date.UTC(year, month - 1, day, hour, minute, second, millis);
  if (micros > 0 || length === 24) return { epochMs, iso: text };
  return { epochMs, iso: hasMillis ? `${text.slice(0, 23)}Z` : `${text.slice(0, 19)}.000Z` };
}

/** The number that stands there; NaN where there is anything but digits. */
function digits(text: string, from: number, to: number): number {
  let number = 0;
  for (let at = from; at < to; at += 1) {
    const digit = text.charCodeAt(at) - ZERO;
    if (!(digit >= 0 && digit <= 9)) return NaN;
    number = number * 10 + digit;
  }
  return number;
}

function daysIn(year: number, month: number): number {
  const isLeap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  return month === 2 && !isLeap ? 28 : (DAYS_IN_MONTH[month - 1] ?? 0);
}

function parseAny(text: string): Instant | null {
  const match = RFC3339.exec(text);
  if (!match) return null;
  const [
    ,
    date = '',
    hours = '',
    minutes = '',
    seconds = '',
    fraction = '',
    zulu,
    sign,
    offHours,
    offMinutes,
  ] = match;
  // A leap second is read as the second before it, as most device clocks repeat it.
  const second = seconds === '60' ? '59' : seconds;
  const wallClock = `${date}T${hours}:${minutes}:${second}.000Z`;
  const wallMs = Date.parse(wallClock);
  if (Number.isNaN(wallMs) || new Date(wallMs).toISOString() !== wallClock) return null;
  const offsetMs = zulu ? 0 : (sign === '-' ? -1 : 1) * (Number(offHours) * 60 + Number(offMinutes)) * 60_000;
  const micros = fraction.padEnd(6, '0').slice(0, 6);
  const epochMs = wallMs - offsetMs + Number(micros.slice(0, 3));
  const utc = new Date(epochMs);
  const year = utc.getUTCFullYear();
  if (year < 1 || year > 9999) return null;
  const iso = utc.toISOString();
  const belowMs = micros.slice(3);
  return { epochMs, iso: belowMs === '000' ? iso : `${iso.slice(0, -1)}${belowMs}Z` };
}
