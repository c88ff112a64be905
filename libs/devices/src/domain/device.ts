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
  readonly presence: Presence;
}

/** Which device it is, whose, and whether it may still send: all that taking a message in depends on. */
export type DeviceIdentity = Pick<Device, 'deviceId' | 'tenant' | 'patientId' | 'type' | 'decommissionedAt'>;

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

const DEVICE_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,254}$/;

/** The pattern of {@link isDeviceId}, for schemas. */
export const DEVICE_ID_PATTERN = DEVICE_ID.source;

/** Fits a topic level, a path segment and the column; holds no wildcard, slash or control character. */
export function isDeviceId(text: string): boolean {
  return DEVICE_ID.test(text);
}
