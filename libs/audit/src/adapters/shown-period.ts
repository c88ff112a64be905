import { StreamableFile, type ExecutionContext } from '@nestjs/common';
import type { AuditEntry } from '#kernel';
import { readPeriod, scopeOf, type AuthenticatedRequest } from '#platform';

/**
 * From when to when the readings of a device are that a request shows; undefined: it shows none that could have been a
 * former patient's. Who is confined to a patient sees none of others.
 *
 * A page says it itself. An export is not known before it goes out, and a bucket holds more than its own time: what counts
 * there is the time that was asked for.
 */
export function shownPeriod(
  context: ExecutionContext,
  request: AuthenticatedRequest,
  result: unknown,
): AuditEntry['shown'] {
  const { principal, params, query } = request;
  if (scopeOf(context) !== 'readings:read' || params['device_id'] === undefined) return undefined;
  if (!principal || principal.patientId !== null) return undefined;
  if (result instanceof StreamableFile || 'interval' in query || 'aggregate' in query) {
    const { from = null, to = null } = readPeriod(query);
    return { from, to };
  }
  const times = timesOf(result);
  if (!times) return { from: null, to: null };
  const [from, to] = [times[0], times.at(-1)];
  return from !== undefined && to !== undefined ? { from, to } : undefined;
}

/** The timestamps of a page in their order; null: it is none. */
function timesOf(page: unknown): readonly string[] | null {
  const { data } = (page ?? {}) as { readonly data?: unknown };
  if (!Array.isArray(data)) return null;
  // Without the Z, 0.123 stands before 0.123456.
  return data
    .map(({ timestamp }: { timestamp: string }) => timestamp.slice(0, -1))
    .sort()
    .map((time) => `${time}Z`);
}
