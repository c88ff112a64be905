import { Client } from 'pg';
import { AuditChain, type ChainPoint } from '../application/audit-chain.js';

const ROWS_AT_ONCE = 5_000;
/** Ids begin at 1; what somebody put before that is found, too. */
const BEFORE_ALL = '-9223372036854775808';

/** In the order of `audit_digest`. */
const FIELDS = `ARRAY[id::text, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), patient_id::text, actor,
  role, tenant, action, device_id, target, source, outcome, detail, request_id]::text[]`;

/** What checking the audit log found. */
export interface AuditVerdict {
  /** The first row that is wrong and why; null: none is. */
  readonly problem: string | null;
  /** The last row that is right, to be noted elsewhere. */
  readonly point: ChainPoint;
}

/**
 * Checks all of the audit log, as of one moment; the service may go on meanwhile.
 * @param url where the database is.
 * @param anchor a point noted earlier.
 * @throws what PostgreSQL says.
 */
export async function verifyAuditLog(url: string, anchor?: ChainPoint): Promise<AuditVerdict> {
  const client = new Client({ connectionString: url, application_name: 'mqtt-service-audit-verify' });
  // Reported by what is awaited, too; unheard, the event would end the process.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const chain = new AuditChain(anchor);
    let after = BEFORE_ALL;
    for (;;) {
      const { rows } = await client.query<{ fields: (string | null)[]; hash: string }>(
        `SELECT ${FIELDS} AS fields, encode(hash, 'hex') AS hash FROM audit_log WHERE id > $1 ORDER BY id LIMIT $2`,
        [after, ROWS_AT_ONCE],
      );
      for (const row of rows) {
        const problem = chain.take(row);
        if (problem !== null) return { problem, point: chain.point };
      }
      if (rows.length < ROWS_AT_ONCE) break;
      after = String(chain.point.id);
    }
    const { rows: heads } = await client.query<{ id: string; hash: string }>(
      `SELECT id, encode(hash, 'hex') AS hash FROM audit_head`,
    );
    const [head] = heads;
    return { problem: chain.end(head ? { ...head, id: Number(head.id) } : null), point: chain.point };
  } finally {
    await client.end();
  }
}
