import { Injectable } from '@nestjs/common';
import { IsNull, MoreThan } from 'typeorm';
import { Database, isUniqueViolation } from '#platform';
import type { Amendment, Device, DeviceIdentity } from '../domain/device.js';
import {
  DeviceRepository,
  type DeviceFilter,
  type NewDevice,
  type UpdatedDevice,
} from '../ports/device.repository.js';
import { DeviceDirectory } from './device-directory.js';
import { DeviceRow, toDevice } from './device.row.js';
import { keepChanges } from './status-changes.js';

const HEARD_SINCE = `
  SELECT device_id FROM medical_devices WHERE device_id = ANY ($1::text[]) AND last_seen >= $2`;

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
    change: (device: Device) => Amendment | null,
  ): Promise<UpdatedDevice | null> {
    return this.database.repository(DeviceRow).manager.transaction(async (manager) => {
      const row = await manager.findOne(DeviceRow, {
        where: { deviceId },
        lock: { mode: 'pessimistic_write' },
      });
      if (!row) return null;
      const before = toDevice(row);
      const amendment = change(before);
      if (!amendment) return { before, after: before, change: null };
      const after = amendment.device;
      await manager.update(DeviceRow, { id: row.id }, changes(before, after));
      const drafts = amendment.change ? [{ device: after, change: amendment.change }] : [];
      const [kept = null] = await keepChanges(manager, drafts);
      return { before, after, change: kept };
    });
  }

  async find(deviceId: string): Promise<Device | null> {
    const row = await this.database.repository(DeviceRow).findOneBy({ deviceId });
    return row && toDevice(row);
  }

  async identify(deviceIds: readonly string[]): Promise<ReadonlyMap<string, DeviceIdentity>> {
    return this.directory.identify(deviceIds);
  }

  async heardSince(deviceIds: readonly string[], since: Date): Promise<ReadonlySet<string>> {
    const rows = await this.database.query<{ device_id: string }>(HEARD_SINCE, [deviceIds, since]);
    return new Set(rows.map((row) => row.device_id));
  }

  async list(filter: DeviceFilter, afterId: number, limit: number): Promise<readonly Device[]> {
    const rows = await this.database.repository(DeviceRow).find({
      where: { ...filter, id: MoreThan(String(afterId)), decommissionedAt: IsNull() },
      order: { id: 'ASC' },
      take: limit,
    });
    return rows.map(toDevice);
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
