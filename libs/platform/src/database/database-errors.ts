/** SQLSTATE classes and codes that say "not now" rather than "not this": PostgreSQL manual, appendix A. */
const TRANSIENT_CLASSES: ReadonlySet<string> = new Set([
  '08', // connection exception
  '40', // transaction rollback: serialization failure, deadlock
  '53', // insufficient resources: disk full, too many connections
  '55', // object not in prerequisite state: lock not available
  '57', // operator intervention: shutdown, cannot connect now
  '58', // system error outside PostgreSQL: I/O error
]);
const READ_ONLY_TRANSACTION = '25006';
/** SQLSTATE classes that blame the data: 22 data exception, 23 integrity constraint violation. */
const DATA_CLASSES: ReadonlySet<string> = new Set(['22', '23']);

const SQLSTATE = /^[0-9A-Z]{5}$/;

/** The database can't be reached or can't serve now; the same statement may succeed later. */
export function isDatabaseUnavailable(error: unknown): boolean {
  const code = errorCode(error);
  // First, because EPIPE looks like an SQLSTATE.
  if (
    code !== null &&
    /^(ECONN|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EPIPE|EHOSTUNREACH|ENETUNREACH|ENOENT)/.test(code)
  )
    return true;
  if (code !== null && SQLSTATE.test(code)) {
    return TRANSIENT_CLASSES.has(code.slice(0, 2)) || code === READ_ONLY_TRANSACTION;
  }
  // pg raises these without a code.
  return (
    error instanceof Error &&
    /Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Query read timeout|not queryable|DataSource is not set|is not established|pool after calling end/i.test(
      error.message,
    )
  );
}

/** The database refused the values themselves; sending them again can't help. */
export function isDataRefused(error: unknown): boolean {
  const code = errorCode(error);
  return code !== null && SQLSTATE.test(code) && DATA_CLASSES.has(code.slice(0, 2));
}

/** A unique constraint was violated (SQLSTATE 23505). */
export function isUniqueViolation(error: unknown): boolean {
  return errorCode(error) === '23505';
}

/** The SQLSTATE or system error code of a failure, for a log that must hold no values; null when it has none. */
export function errorCode(error: unknown): string | null {
  if (typeof error !== 'object' || error === null) return null;
  if ('code' in error && typeof error.code === 'string') return error.code;
  if ('errors' in error && Array.isArray(error.errors)) return errorCode(error.errors[0]);
  return null;
}
