import { Injectable } from '@nestjs/common';
import { In, IsNull, type EntityManager } from 'typeorm';
import { Database } from '#platform';
import type { KeptChange, LowBattery } from '../domain/device-events.js';
import type { Device } from '../domain/device.js';
import type { LowBatteryNote } from '../domain/presence.js';
import {
  PresenceRepository,
  type ChangeFilter,
  type PresenceDecision,
  type PresenceNews,
  type UntoldChange,
} from '../ports/presence.repository.js';
import { DeviceRow, toDevice } from './device.row.js';
import {
  CHANGE_COLUMNS,
  keepChanges,
  TELL_AFTER,
  toChange,
  TOLD_LATE,
  type ChangeRecord,
} from './status-changes.js';

/** The advisory lock of whoever looks for silent devices. */
const SWEEP_LOCK = 0x6d71_7369; // "mqsi"

// Rows are locked in this order everywhere, so that two replicas can't wait for each other.
const REFRESH_SEEN = `
  WITH seen AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS arrival (device_id, at)
  ), found AS (
    SELECT id, device_id, status, at FROM medical_devices JOIN seen USING (device_id)
    WHERE decommissioned_at IS NULL ORDER BY id FOR UPDATE OF medical_devices
  ), refreshed AS (
    UPDATE medical_devices SET last_seen = greatest(last_seen, at), last_data_at = greatest(last_data_at, at)
    FROM found WHERE medical_devices.id = found.id AND found.status = 'online'
  )
  SELECT device_id FROM found WHERE status <> 'online'`;

const STORE = `
  UPDATE medical_devices device SET
    status = next.status, last_seen = next.last_seen, last_data_at = next.last_data_at,
    connected_since = next.connected_since, session = next.session, battery = next.battery,
    signal_strength = next.signal_strength, presence_memory = next.memory,
    battery_tell_after = CASE
      WHEN is_newly_low THEN ${TELL_AFTER}
      ELSE battery_tell_after
    END
  FROM jsonb_to_recordset($1::jsonb) AS next (
    id bigint, status text, last_seen timestamptz, last_data_at timestamptz, connected_since timestamptz, session text,
    battery smallint, signal_strength smallint, memory jsonb, is_newly_low boolean
  ) WHERE device.id = next.id`;

/**
 * Turns silent devices offline. One statement, one transaction: the lock is held for as long as it takes. What others are
 * changing is no longer silent, or will be found the next time. Rows that are locked stay where they are: going back to
 * them by their place spares a look into the index for each.
 */
export const EXPIRE_SILENT = `
  WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(${SWEEP_LOCK}) AS mine
  ), silent AS (
    SELECT ctid AS place FROM medical_devices
    WHERE status = 'online' AND last_seen < $1 AND (SELECT mine FROM turn)
    ORDER BY last_seen LIMIT $3 FOR UPDATE SKIP LOCKED
  ), gone AS (
    UPDATE medical_devices SET status = 'offline', connected_since = NULL FROM silent
    WHERE medical_devices.ctid = silent.place
    RETURNING device_id, tenant, patient_id, session, battery, signal_strength, last_seen
  ), kept AS (
    INSERT INTO device_status_changes
      (device_id, tenant, patient_id, status, cause, at, session, battery, signal_strength, last_seen, tell_after)
    SELECT device_id, tenant, patient_id, 'offline', 'timeout', $2, session, battery, signal_strength, last_seen,
      ${TELL_AFTER}
    FROM gone RETURNING ${CHANGE_COLUMNS}
  )
  SELECT turn.mine, kept.* FROM turn LEFT JOIN kept ON true ORDER BY kept.id`;

const CLAIM_CHANGES = `
  WITH due AS (
    SELECT id FROM device_status_changes WHERE tell_after < now() AND id <> ALL ($2::bigint[])
    ORDER BY tell_after LIMIT $1 FOR UPDATE SKIP LOCKED
  ), mine AS (
    UPDATE device_status_changes SET tell_after = ${TELL_AFTER} FROM due
    WHERE device_status_changes.id = due.id RETURNING device_status_changes.*
  )
  SELECT ${CHANGE_COLUMNS} FROM mine ORDER BY id`;

// What is locked is being taken over or noted by others.
const CLAIM_UP_TO = `
  WITH own AS (
    SELECT device_id, max(id) AS last FROM unnest($1::bigint[], $2::text[]) AS own (id, device_id) GROUP BY device_id
  ), untold AS MATERIALIZED (
    SELECT change.* FROM own JOIN device_status_changes change
      ON change.device_id = own.device_id AND change.id <= own.last AND change.tell_after IS NOT NULL
  ), late AS (
    SELECT id FROM device_status_changes
    WHERE id IN (SELECT id FROM untold) AND id <> ALL ($3::bigint[]) AND ${TOLD_LATE}
    ORDER BY id FOR UPDATE SKIP LOCKED
  ), mine AS (
    UPDATE device_status_changes SET tell_after = ${TELL_AFTER} FROM late
    WHERE device_status_changes.id = late.id RETURNING device_status_changes.id
  )
  SELECT ${CHANGE_COLUMNS}, id IN (SELECT id FROM mine) AS claimed FROM untold ORDER BY id`;

// One device may be told of twice at once. Its row is looked at when nobody else changes it.
const MARK_LOW_BATTERIES_TOLD = `
  WITH told AS (
    SELECT device_id, array_agg(since) AS dates FROM unnest($1::text[], $2::bigint[]) AS low (device_id, since)
    GROUP BY device_id
  ), changed AS (
    SELECT id, jsonb_set(presence_memory, '{untoldLow}', coalesce((
      SELECT jsonb_agg(low) FROM jsonb_array_elements(presence_memory->'untoldLow') AS low
      WHERE (low->>'since')::bigint <> ALL (dates)
    ), '[]')) AS memory
    FROM medical_devices JOIN told USING (device_id) ORDER BY id FOR UPDATE OF medical_devices
  )
  UPDATE medical_devices SET
    presence_memory = memory,
    battery_tell_after = CASE WHEN memory->'untoldLow' <> '[]' THEN battery_tell_after END
  FROM changed WHERE medical_devices.id = changed.id`;

const CLAIM_LOW_BATTERIES = `
  WITH due AS (
    SELECT id FROM medical_devices WHERE battery_tell_after < now() LIMIT $1 FOR UPDATE SKIP LOCKED
  ), mine AS (
    UPDATE medical_devices SET battery_tell_after = ${TELL_AFTER} FROM due
    WHERE medical_devices.id = due.id RETURNING medical_devices.*
  )
  SELECT device_id, tenant, patient_id, presence_memory->'untoldLow' AS low FROM mine ORDER BY id`;

/** A turn without a change where nobody was silent. */
type SweepRecord = { readonly mine: boolean } & (ChangeRecord | { readonly id: null });

interface LowBatteryRecord {
  readonly device_id: string;
  readonly tenant: string;
  readonly patient_id: number;
  readonly low: readonly LowBatteryNote[] | null;
}

/** Presence in `medical_devices`, its history in `device_status_changes`. */
@Injectable()
export class PgPresenceRepository extends PresenceRepository {
  constructor(private readonly database: Database) {
    super();
  }

  async update(
    deviceIds: readonly string[],
    decide: (device: Device) => PresenceDecision | null,
  ): Promise<PresenceNews> {
    if (deviceIds.length === 0) return { changes: [], lowBatteries: [] };
    return this.database.repository(DeviceRow).manager.transaction(async (manager) => {
      const rows = await manager.find(DeviceRow, {
        where: { deviceId: In([...deviceIds]), decommissionedAt: IsNull() },
        // Always in this order, so that two replicas can't wait for each other.
        order: { id: 'ASC' },
        lock: { mode: 'pessimistic_write' },
      });
      const decided = rows.flatMap((row) => {
        const device = toDevice(row);
        const decision = decide(device);
        return decision ? [{ device: { ...device, presence: decision.presence }, decision }] : [];
      });
      await store(manager, decided);
      const changes = await keepChanges(
        manager,
        decided.flatMap(({ device, decision }) => decision.changes.map((change) => ({ device, change }))),
      );
      const lowBatteries = decided.flatMap(({ device, decision }) =>
        lowBatteriesOf(device, decision.lowBatteries),
      );
      return { changes, lowBatteries };
    });
  }

  async refreshSeen(arrivals: ReadonlyMap<string, Date>): Promise<readonly string[]> {
    const rows = await this.database.query<{ device_id: string }>(REFRESH_SEEN, [
      [...arrivals.keys()],
      [...arrivals.values()].map((at) => at.toISOString()),
    ]);
    return rows.map((row) => row.device_id);
  }

  async expireSilent(before: Date, at: Date, limit: number): Promise<PresenceNews | null> {
    const rows = await this.database.query<SweepRecord>(EXPIRE_SILENT, [
      before.toISOString(),
      at.toISOString(),
      limit,
    ]);
    if (rows[0]?.mine !== true) return null;
    return { changes: rows.flatMap((row) => (row.id === null ? [] : [toChange(row)])), lowBatteries: [] };
  }

  async claimUntold(limit: number, except: readonly number[]): Promise<PresenceNews> {
    const changes = await this.database.query<ChangeRecord>(CLAIM_CHANGES, [limit, except]);
    const batteries = await this.database.query<LowBatteryRecord>(CLAIM_LOW_BATTERIES, [limit]);
    const lowBatteries = batteries.flatMap(({ device_id, tenant, patient_id, low }) =>
      lowBatteriesOf({ deviceId: device_id, tenant, patientId: patient_id }, low ?? []),
    );
    return { changes: changes.map(toChange), lowBatteries };
  }

  async claimUpTo(
    changes: ReadonlyMap<number, string>,
    except: readonly number[],
  ): Promise<readonly UntoldChange[]> {
    const rows = await this.database.query<ChangeRecord & { readonly claimed: boolean }>(CLAIM_UP_TO, [
      [...changes.keys()],
      [...changes.values()],
      except,
    ]);
    return rows.map((row) => ({ change: toChange(row), isClaimed: row.claimed }));
  }

  async untoldAmong(changes: readonly number[]): Promise<readonly number[]> {
    const rows = await this.database.query<{ id: string }>(
      'SELECT id FROM device_status_changes WHERE id = ANY ($1::bigint[]) AND tell_after IS NOT NULL',
      [changes],
    );
    return rows.map(({ id }) => Number(id));
  }

  async markTold({ changes, lowBatteries }: PresenceNews): Promise<void> {
    if (changes.length > 0) {
      await this.database.query('UPDATE device_status_changes SET tell_after = NULL WHERE id = ANY($1)', [
        changes.map(({ id }) => id),
      ]);
    }
    if (lowBatteries.length > 0) {
      await this.database.query(MARK_LOW_BATTERIES_TOLD, [
        lowBatteries.map(({ deviceId }) => deviceId),
        lowBatteries.map(({ since }) => since.getTime()),
      ]);
    }
  }

  async history(
    { deviceId, from }: ChangeFilter,
    before: number | null,
    limit: number,
  ): Promise<readonly KeptChange[]> {
    const rows = await this.database.query<ChangeRecord>(
      `SELECT ${CHANGE_COLUMNS} FROM device_status_changes
       WHERE device_id = $1 AND ($2::timestamptz IS NULL OR at >= $2) AND ($3::bigint IS NULL OR id < $3)
       ORDER BY id DESC LIMIT $4`,
      [deviceId, from?.toISOString() ?? null, before, limit],
    );
    return rows.map(toChange);
  }
}

async function store(
  manager: EntityManager,
  decided: readonly { readonly device: Device; readonly decision: PresenceDecision }[],
): Promise<void> {
  const rows = decided.map(({ device: { id, presence }, decision }) => ({
    id,
    status: presence.status,
    last_seen: presence.lastSeen,
    last_data_at: presence.lastDataAt,
    connected_since: presence.connectedSince,
    session: presence.session,
    battery: presence.battery,
    signal_strength: presence.signalStrength,
    memory: presence.memory,
    is_newly_low: decision.lowBatteries.length > 0,
  }));
  await manager.query(STORE, [JSON.stringify(rows)]);
}

function lowBatteriesOf(
  { deviceId, tenant, patientId }: Pick<Device, 'deviceId' | 'tenant' | 'patientId'>,
  notes: readonly LowBatteryNote[],
): readonly LowBattery[] {
  return notes.map(({ since, percent }) => ({
    deviceId,
    tenant,
    patientId,
    battery: percent,
    since: new Date(since),
  }));
}
