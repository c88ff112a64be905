import { parseInstant, type FieldError } from '#kernel';
import { validationFailed } from './validation.js';

/** A stretch of time; a side that is absent is open. Times are ISO 8601 in UTC; `from` is included, `to` is not. */
export interface Period {
  readonly from?: string;
  readonly to?: string;
}

/**
 * Reads the query parameters `from` and `to`: RFC 3339 with an offset.
 * @throws DomainError invalid/validation_failed that names those which are no time.
 */
export function readPeriod(query: { readonly from?: string; readonly to?: string }): Period {
  const errors: FieldError[] = [];
  const instant = (field: 'from' | 'to'): string | undefined => {
    const text = query[field];
    if (text === undefined) return undefined;
    // In a query string, + stands for a space: an offset that was not escaped arrives as one.
    const parsed = parseInstant(text.replace(/ (\d{2}:?\d{2})$/, '+$1'));
    if (!parsed)
      errors.push({
        field,
        message: 'must be an RFC 3339 time with its offset, such as 2024-01-23T10:30:00Z',
      });
    return parsed?.iso;
  };
  const from = instant('from');
  const to = instant('to');
  if (errors.length > 0) throw validationFailed(errors);
  return { ...(from !== undefined && { from }), ...(to !== undefined && { to }) };
}

/** The time in a page cursor. @throws DomainError invalid/validation_failed when it is none. */
export function cursorInstant(text: string): string {
  const instant = parseInstant(text);
  if (!instant) throw validationFailed([{ field: 'cursor', message: 'is not a cursor of this list' }]);
  return instant.iso;
}
