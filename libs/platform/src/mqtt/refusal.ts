import { MessageRejected } from '#kernel';
import { errorCode, isDatabaseUnavailable, isDataRefused } from '../database/database-errors.js';

/** What JavaScript and Node throw over values, and would throw over the same values again. */
const DEFECTS = [RangeError, TypeError, SyntaxError];
const STRING_TOO_LONG = 'ERR_STRING_TOO_LONG';

/** Processing failed by a defect that meets the same message at each attempt, or looks as if it did. */
export function isDefect(error: unknown): boolean {
  if (isDatabaseUnavailable(error)) return false;
  return DEFECTS.some((defect) => error instanceof defect) || errorCode(error) === STRING_TOO_LONG;
}

/**
 * Why a message that can't be stored goes to quarantine; null for what may pass by waiting. The error's own words may
 * hold values, and are left out.
 */
export function refusalOf(error: unknown): MessageRejected | null {
  if (isDataRefused(error)) {
    return new MessageRejected(
      'invalid_payload',
      `The database refused it (SQLSTATE ${errorCode(error) ?? 'unknown'}).`,
    );
  }
  if (!isDefect(error)) return null;
  const name = error instanceof Error ? error.name : 'unknown error';
  return new MessageRejected('invalid_payload', `It could not be processed (${errorCode(error) ?? name}).`);
}
