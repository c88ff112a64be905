import type { AuditEntry } from '#kernel';

/** Which entries. Times are ISO 8601; `from` is included, `to` is not. */
export interface AuditFilter {
  readonly actor?: string;
  readonly action?: string;
  readonly deviceId?: string;
  readonly patientId?: number;
  readonly from?: string;
  readonly to?: string;
}

/** An entry as it stands in the log. */
export interface AuditRecord extends Omit<AuditEntry, 'actor'> {
  readonly id: number;
  readonly actor: string | null;
  readonly role: string | null;
  /** Null: nobody was told from anybody else, so no tenant either. */
  readonly tenant: string | null;
  /** Hexadecimal. */
  readonly hash: string;
}

/** The log itself. */
export abstract class AuditLog {
  /**
   * Adds entries in their order, all or none.
   * @throws DomainError invalid when they can never be added; anything else may pass.
   */
  abstract append(entries: readonly AuditEntry[]): Promise<void>;

  /** A page, newest first, of the entries before `before` that concern a tenant. */
  abstract page(
    filter: AuditFilter,
    tenant: string,
    before: number | null,
    limit: number,
  ): Promise<readonly AuditRecord[]>;
}
