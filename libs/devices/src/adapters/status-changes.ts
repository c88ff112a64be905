import type { EntityManager } from 'typeorm';
import type { KeptChange } from '../domain/device-events.js';
import type { Device } from '../domain/device.js';
import type { ConnectionCause, StatusChange } from '../domain/presence.js';

/** When others may tell of what is kept now: telling takes as long as the broker does. */
export const TELL_AFTER = `now() + interval '30 seconds'`;

/** What was stored, or taken over, within the last 5 s, somebody may be telling this very moment. */
export const TOLD_LATE = `tell_after < now() + interval '25 seconds'`;

/** The columns of `device_status_changes` that make a {@link KeptChange}. */
export const CHANGE_COLUMNS =
  'id, device_id, tenant, patient_id, status, cause, at, session, battery, signal_strength, last_seen';

export interface ChangeRecord {
  readonly id: string;
  readonly device_id: string;
  readonly tenant: string;
  readonly patient_id: number;
  readonly status: 'online' | 'offline';
  readonly cause: ConnectionCause;
  readonly at: Date;
  readonly session: string | null;
  readonly battery: number | null;
  readonly signal_strength: number | null;
  readonly last_seen: Date | null;
}

// Ids are given in the order of the changes, and come back in it.
const KEEP = `
  INSERT INTO device_status_changes
    (device_id, tenant, patient_id, status, cause, at, session, battery, signal_strength, last_seen, tell_after)
  SELECT device_id, tenant, patient_id, status, cause, at, session, battery, signal_strength, last_seen, ${TELL_AFTER}
  FROM jsonb_to_recordset($1::jsonb) AS draft (
    place int, device_id text, tenant text, patient_id int, status text, cause text, at timestamptz, session text,
    battery smallint, signal_strength smallint, last_seen timestamptz
  ) ORDER BY place
  RETURNING ${CHANGE_COLUMNS}`;

/** Writes changes of devices' connections into their history, in the transaction that makes them. */
export async function keepChanges(
  manager: EntityManager,
  drafts: readonly { readonly device: Device; readonly change: StatusChange }[],
): Promise<readonly KeptChange[]> {
  if (drafts.length === 0) return [];
  const rows = drafts.map(({ device, change }, place) => ({
    place,
    device_id: device.deviceId,
    tenant: device.tenant,
    patient_id: device.patientId,
    status: change.status,
    cause: change.cause,
    at: change.at,
    session: change.session,
    battery: change.battery,
    signal_strength: change.signalStrength,
    last_seen: change.lastSeen,
  }));
  const kept = await manager.query<ChangeRecord[]>(KEEP, [JSON.stringify(rows)]);
  return kept.map(toChange);
}

export function toChange(row: ChangeRecord): KeptChange {
  return {
    id: Number(row.id),
    deviceId: row.device_id,
    tenant: row.tenant,
    patientId: row.patient_id,
    status: row.status,
    cause: row.cause,
    at: row.at,
    session: row.session,
    battery: row.battery,
    signalStrength: row.signal_strength,
    lastSeen: row.last_seen,
  };
}
