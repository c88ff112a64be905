import type { Device, DeviceIdentity, DeviceStatus, DeviceType, Presence } from '../domain/device.js';

/** What registration knows of a device. */
export type NewDevice = Pick<Device, 'deviceId' | 'tenant' | 'patientId' | 'type' | 'model' | 'serialNumber'>;

export interface DeviceFilter {
  readonly type?: DeviceType;
  readonly status?: DeviceStatus;
  readonly tenant?: string;
  readonly patientId?: number;
}

/** Changes one device's presence; null leaves it as it is. */
export type PresenceUpdate = (device: Device) => Presence | null;

/** Where devices are kept. All methods reject with a database error while the database is away. */
export abstract class DeviceRepository {
  /** @returns the device, or null when its id is taken. */
  abstract insert(device: NewDevice): Promise<Device | null>;

  /** Takes back a registration that could not be finished. */
  abstract remove(deviceId: string): Promise<void>;

  /**
   * Loads a device, lets `change` decide, and stores, all under a row lock.
   * @param change returns the device as it shall be, or null to leave it.
   * @returns it before and after, or null when its id is not registered. @throws what `change` throws.
   */
  abstract update(
    deviceId: string,
    change: (device: Device) => Device | null,
  ): Promise<{ readonly before: Device; readonly after: Device } | null>;

  abstract find(deviceId: string): Promise<Device | null>;

  /** Those of the given ids that are registered, by id. Asked once a batch of messages. */
  abstract identify(deviceIds: readonly string[]): Promise<ReadonlyMap<string, DeviceIdentity>>;

  /** A page of the devices in service, in the order of registration, starting behind `afterId`. */
  abstract list(filter: DeviceFilter, afterId: number, limit: number): Promise<readonly Device[]>;

  /**
   * Loads devices, lets `update` decide, and stores, all under row locks: two replicas never decide on the same
   * old state. Unknown ids, and those of decommissioned devices, are skipped.
   */
  abstract updatePresence(deviceIds: readonly string[], update: PresenceUpdate): Promise<void>;

  /**
   * Moves the last sign of life of devices that are online forward: most sightings change nothing else.
   * @param arrivals device id to the time of receipt.
   * @returns the devices in service among them that are not online, and are left as they are.
   */
  abstract refreshSeen(arrivals: ReadonlyMap<string, Date>): Promise<readonly string[]>;

  /** Turns devices offline that were last seen before `before`. @returns them, as they now are. */
  abstract expireSilent(before: Date): Promise<readonly Device[]>;
}
