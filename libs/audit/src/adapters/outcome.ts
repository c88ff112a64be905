import { HttpException } from '@nestjs/common';
import { DomainError, type AuditEntry } from '#kernel';
import { InvalidTokenError, isDatabaseUnavailable } from '#platform';

/** How something ended, and a word on it. */
export type Outcome = Pick<AuditEntry, 'outcome' | 'detail'>;

/** What a failure is in the audit log. Its message stays out: it may quote what was sent. */
export function outcomeOf(error: unknown): Outcome {
  if (error instanceof DomainError) {
    if (error.kind === 'forbidden') return { outcome: 'denied', detail: error.code };
    return { outcome: error.kind === 'unavailable' ? 'failed' : 'refused', detail: error.code };
  }
  if (error instanceof InvalidTokenError) return { outcome: 'denied', detail: 'bad_token' };
  if (isDatabaseUnavailable(error)) return { outcome: 'failed', detail: 'database_unavailable' };
  const status = error instanceof HttpException ? error.getStatus() : 500;
  if (status === 401 || status === 403) return { outcome: 'denied', detail: `status_${status}` };
  if (status >= 500) return { outcome: 'failed', detail: 'internal_error' };
  return { outcome: 'refused', detail: `status_${status}` };
}
