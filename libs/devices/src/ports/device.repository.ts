import type { KeptChange } from '../domain/device-events.js';
import type { Amendment, Device, DeviceIdentity, DeviceType } from '../domain/device.js';
import type { DeviceStatus } from '../domain/presence.js';

/** What registration knows of a device. */
export type NewDevice = Pick<Device, 'deviceId' | 'tenant' | 'patientId' | 'type' | 'model' | 'serialNumber'>;

export interface DeviceFilter {
  readonly type?: DeviceType;
  readonly status?: DeviceStatus;
  readonly tenant?: string;
  readonly patientId?: number;
}

/** A device before and after an update, and the change of its connection, as it was kept. */
export interface UpdatedDevice {
  readonly before: Device;
  readonly after: Device;
  readonly change: KeptChange | null;
}

/** Where devices are kept. All methods reject with a database error while the database is away. */
export abstract class DeviceRepository {
  /** @returns the device, or null when its id is taken. */
  abstract insert(device: NewDevice): Promise<Device | null>;

  /** Takes back a registration that could not be finished. */
  abstract remove(deviceId: string): Promise<void>;

  /**
   * Loads a device, lets `change` decide, and stores that with its history, all under a row lock.
   * @param change returns the device as it shall be, or null to leave it.
   * @returns it before and after, or null when its id is not registered. @throws what `change` throws.
   */
  abstract update(
    deviceId: string,
    change: (device: Device) => Amendment | null,
  ): Promise<UpdatedDevice | null>;

  abstract find(deviceId: string): Promise<Device | null>;

  /** Those of the given ids that are registered, by id. Asked once a batch of messages. */
  abstract identify(deviceIds: readonly string[]): Promise<ReadonlyMap<string, DeviceIdentity>>;

  /** Those of the devices whose last sign of life, as it is stored, came then or later. */
  abstract heardSince(deviceIds: readonly string[], since: Date): Promise<ReadonlySet<string>>;

  /** A page of the devices in service, in the order of registration, starting behind `afterId`. */
  abstract list(filter: DeviceFilter, afterId: number, limit: number): Promise<readonly Device[]>;
}
