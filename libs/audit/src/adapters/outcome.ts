import type { AuditEntry } from '#kernel';
import { examine, InvalidTokenError } from '#platform';

/** How something ended, and a word on it. */
export type Outcome = Pick<AuditEntry, 'outcome' | 'detail'>;

/** What a failure is in the audit log: the code it is answered with. Its message stays out: it may quote what was sent. */
export function outcomeOf(error: unknown): Outcome {
  if (error instanceof InvalidTokenError) return { outcome: 'denied', detail: 'bad_token' };
  const { status, code } = examine(error);
  if (status === 401 || status === 403) return { outcome: 'denied', detail: code };
  return { outcome: status >= 500 ? 'failed' : 'refused', detail: code };
}
