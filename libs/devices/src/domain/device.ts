import { DomainError, type Principal } from '#kernel';
import { cutOff, type Presence, type StatusChange } from './presence.js';

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

/**
 * A device with other details; null when they are what they were.
 * Measurements belong to the patient of their time, so a change of patient is dated; no two of a device alike.
 * @throws DomainError conflict/device_decommissioned
 */
export function amended(device: Device, details: Partial<DeviceDetails>, at: Date): Device | null {
  requireInService(device);
  const changed = { ...device, ...details };
  if (changed.patientId !== device.patientId)
    return { ...changed, patientSince: after(device.patientSince, at) };
  const same = changed.model === device.model && changed.serialNumber === device.serialNumber;
  return same ? null : changed;
}

/** Clocks of two replicas may be apart. */
function after(last: Date | null, at: Date): Date {
  return last !== null && at <= last ? new Date(last.getTime() + 1) : at;
}

/**
 * What happened to a device before that moment was another patient's, and is not shown; null: there is no such moment, or
 * the caller is confined to no patient.
 */
export function shownSince(
  { patientSince }: Pick<DeviceIdentity, 'patientSince'>,
  caller: Principal,
): Date | null {
  return caller.patientId === null ? null : patientSince;
}

/** A device as it shall be, and whether that ends its connection. */
export interface Amendment {
  readonly device: Device;
  readonly change: StatusChange | null;
}

/** A device that is done for good; null when it was already. */
export function decommissioned(device: Device, at: Date): Amendment | null {
  if (device.decommissionedAt) return null;
  const { presence, change } = cutOff(device.presence, at, 'decommissioned');
  return { device: { ...device, decommissionedAt: at, presence }, change };
}

/** A device that can't connect any more with the credentials it had. */
export function lockedOut(device: Device, at: Date): Amendment {
  const { presence, change } = cutOff(device.presence, at, 'credentials');
  return { device: { ...device, presence }, change };
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
