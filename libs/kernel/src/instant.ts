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

const UPPERCASE_Z = 0x5a;
/** The year 1, PostgreSQL's first after Christ. */
const FIRST_MS = Date.parse('0001-01-01T00:00:00.000Z');

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

/** To the second, the millisecond, the microsecond. */
const CANONICAL_LENGTHS: ReadonlySet<number> = new Set([20, 24, 27]);

/** Most devices write UTC with a Z and 0, 3 or 6 digits of a second: a fifth of the time of the general way. */
function parseCanonical(text: string): Instant | null {
  const { length } = text;
  if (!CANONICAL_LENGTHS.has(length) || text.charCodeAt(length - 1) !== UPPERCASE_Z) return null;
  const micros = length === 27 ? text.slice(23, 26) : '000';
  if (!isDigits(micros)) return null;
  const toMillis =
    length === 24 ? text : length === 20 ? `${text.slice(0, 19)}.000Z` : `${text.slice(0, 23)}Z`;
  const epochMs = Date.parse(toMillis);
  // Dates that don't exist, and other spellings, come back changed, or not at all.
  if (!(epochMs >= FIRST_MS) || new Date(epochMs).toISOString() !== toMillis) return null;
  return { epochMs, iso: micros === '000' ? toMillis : text };
}

function isDigits(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code < 0x30 || code > 0x39) return false;
  }
  return true;
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
