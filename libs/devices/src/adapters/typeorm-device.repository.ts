import { Injectable } from '@nestjs/common';
import { In, LessThan, MoreThan } from 'typeorm';
import { Database, isUniqueViolation } from '#platform';
import type { Device } from '../domain/device.js';
import {
  DeviceRepository,
  type DeviceFilter,
  type NewDevice,
  type PresenceUpdate,
} from '../ports/device.repository.js';
import { DeviceRow, toDevice } from './device.row.js';

/** Devices in `medical_devices`. */
@Injectable()
export class TypeormDeviceRepository extends DeviceRepository {
  constructor(private readonly database: Database) {
    super();
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

  async find(deviceId: string): Promise<Device | null> {
    const row = await this.database.repository(DeviceRow).findOneBy({ deviceId });
    return row && toDevice(row);
  }

  async findMany(deviceIds: readonly string[]): Promise<ReadonlyMap<string, Device>> {
    const rows = await this.database.repository(DeviceRow).findBy({ deviceId: In([...new Set(deviceIds)]) });
    return new Map(rows.map((row) => [row.deviceId, toDevice(row)]));
  }

  async list(filter: DeviceFilter, afterId: number, limit: number): Promise<readonly Device[]> {
    const rows = await this.database.repository(DeviceRow).find({
      where: { ...filter, id: MoreThan(String(afterId)) },
      order: { id: 'ASC' },
      take: limit,
    });
    return rows.map(toDevice);
  }

  async updatePresence(deviceIds: readonly string[], update: PresenceUpdate): Promise<void> {
    await this.database.repository(DeviceRow).manager.transaction(async (manager) => {
      const rows = await manager.find(DeviceRow, {
        where: { deviceId: In([...new Set(deviceIds)]) },
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
