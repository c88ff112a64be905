import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import type { Device, DeviceType } from '../domain/device.js';
import { NOTHING_REMEMBERED, type DeviceStatus, type PresenceMemory } from '../domain/presence.js';

/** A row of `medical_devices`. */
@Entity('medical_devices')
export class DeviceRow {
  /** BIGINT arrives as text; ids stay far below 2^53. */
  @PrimaryGeneratedColumn({ type: 'bigint' })
  id!: string;

  @Column({ name: 'device_id', type: 'varchar' })
  deviceId!: string;

  @Column({ type: 'varchar', default: 'default' })
  tenant!: string;

  @Column({ name: 'patient_id', type: 'integer' })
  patientId!: number;

  @Column({ type: 'varchar' })
  type!: DeviceType;

  @Column({ type: 'varchar', nullable: true })
  model!: string | null;

  @Column({ name: 'serial_number', type: 'varchar', nullable: true })
  serialNumber!: string | null;

  @Column({ type: 'varchar', default: 'inactive' })
  status!: DeviceStatus;

  @Column({ name: 'last_seen', type: 'timestamptz', nullable: true })
  lastSeen!: Date | null;

  @Column({ name: 'last_data_at', type: 'timestamptz', nullable: true })
  lastDataAt!: Date | null;

  @Column({ name: 'created_at', type: 'timestamptz', default: () => 'CURRENT_TIMESTAMP' })
  createdAt!: Date;

  @Column({ type: 'smallint', nullable: true })
  battery!: number | null;

  @Column({ name: 'signal_strength', type: 'smallint', nullable: true })
  signalStrength!: number | null;

  @Column({ name: 'connected_since', type: 'timestamptz', nullable: true })
  connectedSince!: Date | null;

  @Column({ type: 'varchar', nullable: true })
  session!: string | null;

  @Column({ name: 'presence_memory', type: 'jsonb', nullable: true })
  /** What was written by an earlier version lacks some of it. */
  memory!: Partial<PresenceMemory> | null;

  @Column({ name: 'decommissioned_at', type: 'timestamptz', nullable: true })
  decommissionedAt!: Date | null;

  @Column({ name: 'patient_since', type: 'timestamptz', nullable: true })
  patientSince!: Date | null;
}

export function toDevice(row: DeviceRow): Device {
  return {
    id: Number(row.id),
    deviceId: row.deviceId,
    tenant: row.tenant,
    patientId: row.patientId,
    type: row.type,
    model: row.model,
    serialNumber: row.serialNumber,
    createdAt: row.createdAt,
    decommissionedAt: row.decommissionedAt,
    patientSince: row.patientSince,
    presence: {
      status: row.status,
      lastSeen: row.lastSeen,
      lastDataAt: row.lastDataAt,
      connectedSince: row.connectedSince,
      session: row.session,
      battery: row.battery,
      signalStrength: row.signalStrength,
      memory: { ...NOTHING_REMEMBERED, ...(row.memory ?? memoryOf(row)) },
    },
  };
}

/** Of a device that has said nothing since presence is remembered: the session it was in. */
function memoryOf({ session, connectedSince }: DeviceRow): Partial<PresenceMemory> {
  if (session === null) return {};
  const since = connectedSince?.getTime() ?? 0;
  const open = { name: session, state: 'open', since, heard: since, dated: null } as const;
  return { sessions: [open] };
}
