import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

/** A row of `audit_log`. */
export interface AuditRow {
  readonly id: number;
  readonly at: string;
  readonly actor: string | null;
  readonly role: string | null;
  readonly tenant: string | null;
  readonly action: string;
  readonly patient_id: number | null;
  readonly device_id: string | null;
  readonly target: string | null;
  readonly source: string | null;
  readonly outcome: string;
  readonly detail: string | null;
  readonly request_id: string;
  readonly hash: string;
}

/** The check of the audit log, compiled. */
export const VERIFY = join(process.cwd(), 'dist', 'apps', 'mqtt-service', 'src', 'cli', 'audit-verify.js');

/** Runs the check as an operator would. */
export function verify(databaseUrl: string, ...args: string[]): { status: number | null; output: string } {
  const { PATH, HOME } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, [VERIFY, ...args], {
    encoding: 'utf8',
    env: { PATH, HOME, DATABASE_URL: databaseUrl },
  });
  return { status, output: stdout + stderr };
}
