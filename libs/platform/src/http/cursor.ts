import { findJsonFlaw } from '#kernel';
import { validationFailed } from './validation.js';

/** Makes an opaque page cursor of a row's sort key. */
export function encodeCursor(key: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify(key), 'utf8').toString('base64url');
}

/**
 * Reads a cursor made by {@link encodeCursor}.
 * @param shape the JavaScript type of each part.
 * @throws DomainError invalid/validation_failed for anything else, a cursor of another list included.
 */
export function decodeCursor<const Shape extends readonly ('string' | 'number')[]>(
  cursor: string,
  shape: Shape,
): { [Part in keyof Shape]: Shape[Part] extends 'number' ? number : string } {
  let key: unknown;
  try {
    key = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    key = null;
  }
  if (
    !Array.isArray(key) ||
    key.length !== shape.length ||
    !key.every(
      (part, index) =>
        typeof part === shape[index] &&
        (typeof part === 'string' ? findJsonFlaw(part) === null : Number.isSafeInteger(part)),
    )
  ) {
    throw validationFailed([{ field: 'cursor', message: 'is not a cursor of this list' }]);
  }
  return key as { [Part in keyof Shape]: Shape[Part] extends 'number' ? number : string };
}

/**
 * Cuts a page from rows of which one more was asked for than the page holds.
 * @param key the sort key of a row: where the next page starts behind.
 */
export function cutPage<Row>(
  rows: readonly Row[],
  limit: number,
  key: (row: Row) => readonly (string | number)[],
): { readonly page: readonly Row[]; readonly next_cursor: string | null } {
  const page = rows.slice(0, limit);
  const last = rows.length > limit ? page.at(-1) : undefined;
  return { page, next_cursor: last === undefined ? null : encodeCursor(key(last)) };
}
