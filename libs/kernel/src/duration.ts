const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** A century. Added to the present, more would leave the four-digit years of RFC 3339, and in the end those of Date. */
const LONGEST_MS = 36_525 * 86_400_000;

/**
 * Reads a duration such as `500ms`, `30s`, `5m`, `1h` or `7d`.
 * @returns milliseconds (a positive whole number), or null when the text is none, or one of more than 36525d.
 */
export function parseDuration(text: string): number | null {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  if (!match) return null;
  const ms = Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 0);
  return ms > 0 && ms <= LONGEST_MS ? ms : null;
}
