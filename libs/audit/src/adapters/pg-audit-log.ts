import { Injectable } from '@nestjs/common';
import { DEFAULT_TENANT, DomainError, type AuditEntry, type AuditOutcome } from '#kernel';
import { Database, isDataRefused, storableText } from '#platform';
import { AuditLog, type AuditFilter, type AuditRecord } from '../ports/audit-log.js';

const MAX_TEXT = 255;
const MAX_TENANT = 100;
const MAX_INT32 = 2_147_483_647;

interface Row {
  readonly id: string;
  readonly at: Date;
  readonly patient_id: number | null;
  readonly actor: string | null;
  readonly role: string | null;
  readonly tenant: string | null;
  readonly action: string;
  readonly device_id: string | null;
  readonly target: string | null;
  readonly source: string | null;
  readonly outcome: AuditOutcome;
  readonly detail: string | null;
  readonly request_id: string;
  readonly hash: string;
}

/** The table `audit_log`. */
@Injectable()
export class PgAuditLog extends AuditLog {
  constructor(private readonly database: Database) {
    super();
  }

  async append(entries: readonly AuditEntry[]): Promise<void> {
    try {
      await this.database.audit.query({
        name: 'audit-append',
        text: 'SELECT audit_append($1::jsonb)',
        values: [JSON.stringify(entries.map(toRow))],
      });
    } catch (error) {
      if (!isDataRefused(error)) throw error;
      throw new DomainError('invalid', 'audit_entry_refused', 'The database refused an audit entry.');
    }
  }

  async page(
    filter: AuditFilter,
    tenant: string,
    before: number | null,
    limit: number,
  ): Promise<readonly AuditRecord[]> {
    const values: unknown[] = [];
    const value = (given: unknown): string => `$${values.push(given)}`;
    const conditions = [
      // Whose a bad token is nobody knows: those entries are for the administrators of the default tenant.
      tenant === DEFAULT_TENANT
        ? `(tenant = ${value(tenant)} OR tenant IS NULL)`
        : `tenant = ${value(tenant)}`,
      ...(filter.actor !== undefined ? [`actor = ${value(filter.actor)}`] : []),
      ...(filter.action !== undefined ? [`action = ${value(filter.action)}`] : []),
      ...(filter.deviceId !== undefined ? [`device_id = ${value(filter.deviceId)}`] : []),
      ...(filter.patientId !== undefined ? [`patient_id = ${value(filter.patientId)}`] : []),
      ...(filter.from !== undefined ? [`at >= ${value(filter.from)}::timestamptz`] : []),
      ...(filter.to !== undefined ? [`at < ${value(filter.to)}::timestamptz`] : []),
      ...(before !== null ? [`id < ${value(before)}::bigint`] : []),
    ];
    const rows = await this.database.query<Row>(
      `SELECT id, at, patient_id, actor, role, tenant, action, device_id, target, source, outcome, detail, request_id,
              encode(hash, 'hex') AS hash
       FROM audit_log WHERE ${conditions.join(' AND ')} ORDER BY id DESC LIMIT ${value(limit)}`,
      values,
    );
    return rows.map(toRecord);
  }
}

/** What `audit_append` takes. */
type NewRow = Omit<Row, 'id' | 'hash' | 'at'> & {
  readonly at: string;
  readonly shown_from?: string;
  readonly shown_to?: string;
};

function toRow(entry: AuditEntry): NewRow {
  return {
    at: entry.at.toISOString(),
    patient_id: inRange(entry.patientId),
    actor: clean(entry.actor?.subject),
    role: clean(entry.actor?.role),
    tenant: clean(entry.actor?.tenant, MAX_TENANT),
    action: clean(entry.action) ?? '',
    device_id: clean(entry.deviceId),
    target: clean(entry.target),
    source: clean(entry.source),
    outcome: entry.outcome,
    detail: clean(entry.detail),
    request_id: clean(entry.requestId) ?? '',
    ...(entry.shown && {
      shown_from: entry.shown.from ?? '-infinity',
      shown_to: entry.shown.to ?? 'infinity',
    }),
  };
}

/** What PostgreSQL can't store, or a terminal would obey, must not keep an entry out. */
function clean(text: string | null | undefined, length = MAX_TEXT): string | null {
  return text === null || text === undefined ? null : storableText(text, length);
}

/** What is no 32-bit integer is nobody's id, and would keep the entry out. */
function inRange(patientId: number | null): number | null {
  return Number.isInteger(patientId) && Math.abs(patientId ?? 0) <= MAX_INT32 ? patientId : null;
}

function toRecord(row: Row): AuditRecord {
  return {
    id: Number(row.id),
    at: row.at,
    patientId: row.patient_id,
    actor: row.actor,
    role: row.role,
    tenant: row.tenant,
    action: row.action,
    deviceId: row.device_id,
    target: row.target,
    source: row.source,
    outcome: row.outcome,
    detail: row.detail,
    requestId: row.request_id,
    hash: row.hash,
  };
}
