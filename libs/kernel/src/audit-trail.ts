import type { Principal } from './principal.js';

/**
 * begun: it is about to be done, and may change something. done: it was. refused: a rule spoke against it (4xx).
 * denied: the caller may not (401, 403). failed: something broke (5xx).
 */
export type AuditOutcome = 'begun' | 'done' | 'refused' | 'denied' | 'failed';

/** Who did what to whose data. It never holds a measured value, a token or a password. */
export interface AuditEntry {
  readonly at: Date;
  /** Null: nobody who could be told from anybody else. */
  readonly actor: Pick<Principal, 'subject' | 'role' | 'tenant'> | null;
  /** The operation's id in the API description, such as getDeviceData. */
  readonly action: string;
  /** Null: the patient the device belongs to at the time; or no one in particular. */
  readonly patientId: number | null;
  readonly deviceId: string | null;
  /** What else it is about, such as a command's id. */
  readonly target: string | null;
  /** The address it came from. */
  readonly source: string | null;
  readonly outcome: AuditOutcome;
  /** A word on the outcome, such as a problem's code. */
  readonly detail: string | null;
  readonly requestId: string;
  /**
   * From when to when the data are that were shown, ISO 8601 in UTC, an open side null: former patients who had the device
   * then get an entry each, too. Absent: what was shown is of the device as it is.
   */
  readonly shown?: { readonly from: string | null; readonly to: string | null };
}

/** Where it is written down who did what; nothing that stands there can be changed or taken away unnoticed. */
export abstract class AuditTrail {
  /**
   * Writes entries down, all or none. Whoever shows patients' data waits for it first.
   * @throws DomainError unavailable/audit_unavailable when that can't be done now: then nothing may be shown.
   */
  abstract record(entries: readonly AuditEntry[]): Promise<void>;

  /** Writes an entry down as soon as that can be done: for what shows nothing, or was announced by one that is `begun`. */
  abstract note(entry: AuditEntry): void;
}
