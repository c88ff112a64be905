import { DomainError } from '#kernel';

/** The kinds of devices the service knows (seed, "Supported Device Types"). */
export const DEVICE_TYPES = [
  'blood_pressure_monitor',
  'glucose_meter',
  'pulse_oximeter',
  'ecg_monitor',
  'weight_scale',
  'temperature_sensor',
] as const;
export type DeviceType = (typeof DEVICE_TYPES)[number];

/** inactive: never seen. */
export const DEVICE_STATUSES = ['inactive', 'online', 'offline'] as const;
export type DeviceStatus = (typeof DEVICE_STATUSES)[number];

/** A registered device. */
export interface Device {
  readonly id: number;
  readonly deviceId: string;
  readonly tenant: string;
  readonly patientId: number;
  readonly type: DeviceType;
  readonly model: string | null;
  readonly serialNumber: string | null;
  readonly createdAt: Date;
  readonly decommissionedAt: Date | null;
  /** When it was given to its patient; null: it has always been that patient's. */
  readonly patientSince: Date | null;
  readonly presence: Presence;
}

/** What may be changed of a registered device. */
export type DeviceDetails = Pick<Device, 'patientId' | 'model' | 'serialNumber'>;

/** Which device it is, whose, and whether it may still send: all that taking a message in depends on. */
export type DeviceIdentity = Pick<
  Device,
  'deviceId' | 'tenant' | 'patientId' | 'patientSince' | 'type' | 'decommissionedAt'
>;

/** What is known of a device's connection. */
export interface Presence {
  readonly status: DeviceStatus;
  readonly lastSeen: Date | null;
  readonly connectedSince: Date | null;
  /** The device's own name for its current connection, if it gives one. */
  readonly session: string | null;
  /** Percent. */
  readonly battery: number | null;
  /** dBm. */
  readonly signalStrength: number | null;
}

/**
 * A device with other details; null when they are what they were.
 * Measurements belong to the patient of their time, so a change of patient is dated.
 * @throws DomainError conflict/device_decommissioned
 */
export function amended(device: Device, details: Partial<DeviceDetails>, at: Date): Device | null {
  requireInService(device);
  const changed = { ...device, ...details };
  if (changed.patientId !== device.patientId) return { ...changed, patientSince: at };
  const same = changed.model === device.model && changed.serialNumber === device.serialNumber;
  return same ? null : changed;
}

/** A device that is done for good; null when it was already. */
export function decommissioned(device: Device, at: Date): Device | null {
  if (device.decommissionedAt) return null;
  return { ...device, decommissionedAt: at, presence: cutOff(device.presence) };
}

/** The presence of a device whose session the broker was told to end. */
export function cutOff(presence: Presence): Presence {
  if (presence.status !== 'online') return presence;
  return { ...presence, status: 'offline', connectedSince: null, session: null };
}

/** @throws DomainError conflict/device_decommissioned */
export function requireInService({ deviceId, decommissionedAt }: DeviceIdentity): void {
  if (decommissionedAt) {
    throw new DomainError('conflict', 'device_decommissioned', `The device ${deviceId} is decommissioned.`);
  }
}

const DEVICE_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,254}$/;

/** The pattern of {@link isDeviceId}, for schemas. */
export const DEVICE_ID_PATTERN = DEVICE_ID.source;

/** Fits a topic level, a path segment and the column; holds no wildcard, slash or control character. */
export function isDeviceId(text: string): boolean {
  return DEVICE_ID.test(text);
}
