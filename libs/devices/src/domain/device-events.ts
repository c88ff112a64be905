import type { DomainEvent } from '#kernel';
import type { Device } from './device.js';
import type { StatusChange } from './presence.js';

/** A change as it is kept, and whose device it was then. */
export interface KeptChange extends StatusChange {
  /** Its place in the history. */
  readonly id: number;
  readonly deviceId: string;
  readonly tenant: string;
  readonly patientId: number;
}

function about(
  device: Device,
  type: DomainEvent['type'],
  at: Date,
  data: Readonly<Record<string, unknown>>,
): DomainEvent {
  return {
    id: crypto.randomUUID(),
    type,
    deviceId: device.deviceId,
    tenant: device.tenant,
    patientId: device.patientId,
    time: at.toISOString(),
    data,
  };
}

export function deviceRegistered(device: Device): DomainEvent {
  return about(device, 'device.registered', device.createdAt, { device_type: device.type });
}

/** Whose it was before stays unsaid: the event is seen by those who may see its patient. */
export function deviceUpdated(device: Device, before: Device, at: Date): DomainEvent {
  return about(device, 'device.updated', at, {
    device_type: device.type,
    model: device.model,
    serial_number: device.serialNumber,
    reassigned: device.patientId !== before.patientId,
  });
}

export function deviceDecommissioned(device: Device, at: Date): DomainEvent {
  return about(device, 'device.decommissioned', at, { device_type: device.type });
}

/** `device.connected` or `device.disconnected`. Its id is the change's own, however often it is told. */
export function statusChanged(kept: KeptChange): DomainEvent {
  const { id, deviceId, tenant, patientId, status, cause, at, battery, signalStrength, lastSeen } = kept;
  const isOnline = status === 'online';
  return {
    id: `${deviceId}.status.${id}`,
    type: isOnline ? 'device.connected' : 'device.disconnected',
    deviceId,
    tenant,
    patientId,
    time: at.toISOString(),
    data: isOnline
      ? {
          status,
          cause,
          ...(battery !== null && { battery }),
          ...(signalStrength !== null && { signal_strength: signalStrength }),
        }
      : { status, cause, last_seen: lastSeen?.toISOString() ?? null },
  };
}

/** A battery that has become low. */
export type LowBattery = Pick<Device, 'deviceId' | 'tenant' | 'patientId'> & {
  readonly battery: number;
  readonly since: Date;
};

/** Its id is that of the discharge, however often it is told. */
export function batteryLow({ deviceId, tenant, patientId, battery, since }: LowBattery): DomainEvent {
  const time = since.toISOString();
  return {
    id: `${deviceId}.battery.${time}`,
    type: 'device.battery.low',
    deviceId,
    tenant,
    patientId,
    time,
    data: { battery },
  };
}
