/** Deeper JSON than this is no measurement and no command; it only serves to exhaust a stack. */
export const MAX_JSON_DEPTH = 32;

const FORBIDDEN_KEYS: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype']);

/** Where in a JSON document, and why, it can't be taken in. `path` is dotted, empty for the document itself. */
export interface JsonFlaw {
  readonly path: string;
  readonly reason: string;
  /** A number that JSON can write and JavaScript can't hold, such as 1e400, which would turn into null. */
  readonly isNumber: boolean;
}

/**
 * Finds what a parsed JSON value may not hold: keys that reach an object's prototype, nesting over
 * {@link MAX_JSON_DEPTH}, and text that PostgreSQL can't store (U+0000, and lone surrogates, which have no UTF-8 form).
 * Never goes deeper than that, so that the check itself can't be used to exhaust the stack.
 * @returns the first flaw found, or null.
 */
export function findJsonFlaw(document: unknown): JsonFlaw | null {
  return isSound(document, 0) ? null : locateFlaw(document);
}

/** Most documents have no flaw: this only says so, without keeping account of where it is. */
function isSound(value: unknown, depth: number): boolean {
  if (typeof value === 'string') return textFlaw(value) === null;
  if (typeof value === 'number') return Number.isFinite(value);
  if (typeof value !== 'object' || value === null) return true;
  if (depth >= MAX_JSON_DEPTH) return false;
  if (Array.isArray(value)) return value.every((child) => isSound(child, depth + 1));
  for (const key of Object.keys(value)) {
    if (FORBIDDEN_KEYS.has(key) || textFlaw(key) !== null) return false;
    if (!isSound((value as Record<string, unknown>)[key], depth + 1)) return false;
  }
  return true;
}

function locateFlaw(document: unknown): JsonFlaw | null {
  const pending: { value: unknown; path: string; depth: number }[] = [
    { value: document, path: '', depth: 0 },
  ];
  for (let item = pending.pop(); item; item = pending.pop()) {
    const { value, path, depth } = item;
    if (typeof value === 'string') {
      const reason = textFlaw(value);
      if (reason) return { path, reason, isNumber: false };
      continue;
    }
    if (value === Infinity || value === -Infinity) {
      return { path, reason: 'is a number out of range', isNumber: true };
    }
    if (typeof value !== 'object' || value === null) continue;
    if (depth >= MAX_JSON_DEPTH) {
      return { path, reason: `is nested deeper than ${MAX_JSON_DEPTH} levels`, isNumber: false };
    }
    for (const [key, child] of Object.entries(value)) {
      const childPath = path === '' ? key : `${path}.${key}`;
      if (FORBIDDEN_KEYS.has(key)) {
        return { path: childPath, reason: 'is a forbidden key', isNumber: false };
      }
      const reason = textFlaw(key);
      if (reason) return { path, reason: `has a key that ${reason}`, isNumber: false };
      if (needsLook(child)) {
        pending.push({ value: child, path: childPath, depth: depth + 1 });
      }
    }
  }
  return null;
}

function needsLook(value: unknown): boolean {
  return (
    typeof value === 'string' ||
    (typeof value === 'object' && value !== null) ||
    Math.abs(Number(value)) === Infinity
  );
}

function textFlaw(text: string): string | null {
  if (text.includes('\u0000')) return 'holds the character U+0000';
  if (!text.isWellFormed()) return 'holds half of a surrogate pair';
  return null;
}
