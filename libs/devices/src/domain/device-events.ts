import type { DomainEvent } from '#kernel';
import type { Device } from './device.js';

/** Why a device's connection is taken to have begun or ended. */
export type ConnectionCause = 'status' | 'data' | 'timeout' | 'credentials' | 'decommissioned';

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

export function deviceConnected(device: Device, at: Date, cause: ConnectionCause): DomainEvent {
  const { battery, signalStrength } = device.presence;
  return about(device, 'device.connected', at, {
    status: 'online',
    cause,
    ...(battery !== null && { battery }),
    ...(signalStrength !== null && { signal_strength: signalStrength }),
  });
}

export function deviceDisconnected(device: Device, at: Date, cause: ConnectionCause): DomainEvent {
  return about(device, 'device.disconnected', at, {
    status: 'offline',
    cause,
    last_seen: device.presence.lastSeen?.toISOString() ?? null,
  });
}
