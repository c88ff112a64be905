import { Injectable } from '@nestjs/common';
import { In, IsNull, LessThan, MoreThan } from 'typeorm';
import { Database, isUniqueViolation } from '#platform';
import type { Device, DeviceIdentity } from '../domain/device.js';
import {
  DeviceRepository,
  type DeviceFilter,
  type NewDevice,
  type PresenceUpdate,
} from '../ports/device.repository.js';
import { DeviceDirectory } from './device-directory.js';
import { DeviceRow, toDevice } from './device.row.js';

// Rows are locked in this order everywhere, so that two replicas can't wait for each other.
const REFRESH_SEEN = `
  WITH seen AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS arrival (device_id, at)
  ), found AS (
    SELECT id, device_id, status, at FROM medical_devices JOIN seen USING (device_id)
    WHERE decommissioned_at IS NULL ORDER BY id FOR UPDATE OF medical_devices
  ), refreshed AS (
    UPDATE medical_devices SET last_seen = greatest(last_seen, at) FROM found
    WHERE medical_devices.id = found.id AND found.status = 'online'
  )
  SELECT device_id FROM found WHERE status <> 'online'`;

/** Devices in `medical_devices`. */
@Injectable()
export class TypeormDeviceRepository extends DeviceRepository {
  private readonly directory: DeviceDirectory;

  constructor(private readonly database: Database) {
    super();
    this.directory = new DeviceDirectory(database);
  }

  async insert(device: NewDevice): Promise<Device | null> {
    const repository = this.database.repository(DeviceRow);
    try {
      return toDevice(await repository.save(repository.create(device)));
    } catch (error) {
      if (isUniqueViolation(error)) return null;
      throw error;
    }
  }

  async remove(deviceId: string): Promise<void> {
    await this.database.repository(DeviceRow).delete({ deviceId });
  }

  async update(
    deviceId: string,
    change: (device: Device) => Device | null,
  ): Promise<{ before: Device; after: Device } | null> {
    return this.database.repository(DeviceRow).manager.transaction(async (manager) => {
      const row = await manager.findOne(DeviceRow, {
        where: { deviceId },
        lock: { mode: 'pessimistic_write' },
      });
      if (!row) return null;
      const before = toDevice(row);
      const after = change(before);
      if (!after) return { before, after: before };
      await manager.update(DeviceRow, { id: row.id }, changes(before, after));
      return { before, after };
    });
  }

  async find(deviceId: string): Promise<Device | null> {
    const row = await this.database.repository(DeviceRow).findOneBy({ deviceId });
    return row && toDevice(row);
  }

  async identify(deviceIds: readonly string[]): Promise<ReadonlyMap<string, DeviceIdentity>> {
    return this.directory.identify(deviceIds);
  }

  async list(filter: DeviceFilter, afterId: number, limit: number): Promise<readonly Device[]> {
    const rows = await this.database.repository(DeviceRow).find({
      where: { ...filter, id: MoreThan(String(afterId)), decommissionedAt: IsNull() },
      order: { id: 'ASC' },
      take: limit,
    });
    return rows.map(toDevice);
  }

  async updatePresence(deviceIds: readonly string[], update: PresenceUpdate): Promise<void> {
    await this.database.repository(DeviceRow).manager.transaction(async (manager) => {
      const rows = await manager.find(DeviceRow, {
        where: { deviceId: In([...new Set(deviceIds)]), decommissionedAt: IsNull() },
        // Always in this order, so that two replicas can't wait for each other.
        order: { id: 'ASC' },
        lock: { mode: 'pessimistic_write' },
      });
      for (const row of rows) {
        const presence = update(toDevice(row));
        if (presence) await manager.update(DeviceRow, { id: row.id }, presence);
      }
    });
  }

  async refreshSeen(arrivals: ReadonlyMap<string, Date>): Promise<readonly string[]> {
    const rows = await this.database.query<{ device_id: string }>(REFRESH_SEEN, [
      [...arrivals.keys()],
      [...arrivals.values()].map((at) => at.toISOString()),
    ]);
    return rows.map((row) => row.device_id);
  }

  async expireSilent(before: Date): Promise<readonly Device[]> {
    return this.database.repository(DeviceRow).manager.transaction(async (manager) => {
      const rows = await manager.find(DeviceRow, {
        where: { status: 'online', lastSeen: LessThan(before) },
        order: { id: 'ASC' },
        lock: { mode: 'pessimistic_write', onLocked: 'skip_locked' },
      });
      if (rows.length === 0) return [];
      const offline = { status: 'offline', connectedSince: null, session: null } as const;
      await manager.update(DeviceRow, { id: In(rows.map((row) => row.id)) }, offline);
      return rows.map((row) => toDevice({ ...row, ...offline }));
    });
  }
}

/** Only what differs: a column that is named counts as a change of the registry. */
function changes(before: Device, after: Device): Partial<DeviceRow> {
  const { patientId, model, serialNumber, decommissionedAt, patientSince } = after;
  return {
    model,
    serialNumber,
    patientSince,
    ...(patientId !== before.patientId && { patientId }),
    ...(decommissionedAt !== before.decommissionedAt && { decommissionedAt }),
    ...after.presence,
  };
}
