import { Injectable } from '@nestjs/common';
import { DomainError, EventBus, type Principal } from '#kernel';
import type { Device, DeviceIdentity } from '../domain/device.js';
import { deviceRegistered } from '../domain/device-events.js';
import { BrokerAccess, type DeviceCredentials } from '../ports/broker-access.js';
import { DeviceRepository, type DeviceFilter, type NewDevice } from '../ports/device.repository.js';

/** A registered device and, once only, its account at the broker. */
export interface Registration {
  readonly device: Device;
  readonly credentials: DeviceCredentials | null;
}

/** Which devices there are and whose they are. */
@Injectable()
export class DeviceRegistry {
  constructor(
    private readonly devices: DeviceRepository,
    private readonly brokerAccess: BrokerAccess,
    private readonly bus: EventBus,
  ) {}

  /** @throws DomainError conflict/device_already_registered */
  async register(device: NewDevice): Promise<Registration> {
    const registered = await this.devices.insert(device);
    if (!registered) {
      throw new DomainError(
        'conflict',
        'device_already_registered',
        `A device ${device.deviceId} is already registered.`,
      );
    }
    let credentials: DeviceCredentials | null;
    try {
      credentials = await this.brokerAccess.issue(registered.deviceId);
    } catch (error) {
      // Without its account the device could not connect, and a second try would meet a conflict.
      await this.devices.remove(registered.deviceId);
      throw error;
    }
    this.bus.announce([deviceRegistered(registered)]);
    return { device: registered, credentials };
  }

  /**
   * @param caller sees another patient's or another tenant's device no more than one that does not exist.
   * @throws DomainError not_found/device_not_found
   */
  async get(deviceId: string, caller: Principal): Promise<Device> {
    const device = await this.devices.find(deviceId);
    if (!device || !caller.maySee(device)) {
      throw new DomainError('not_found', 'device_not_found', `No device ${deviceId} is registered.`);
    }
    return device;
  }

  /** Registered devices among the given ids, by id. */
  async identify(deviceIds: readonly string[]): Promise<ReadonlyMap<string, DeviceIdentity>> {
    return this.devices.identify(deviceIds);
  }

  /** A page of the devices the caller may see, in the order of registration. */
  async list(
    filter: DeviceFilter,
    afterId: number,
    limit: number,
    caller: Principal,
  ): Promise<readonly Device[]> {
    const { tenant, patientId } = caller;
    if (patientId === null) return this.devices.list({ ...filter, tenant }, afterId, limit);
    if (filter.patientId !== undefined && filter.patientId !== patientId) return [];
    return this.devices.list({ ...filter, tenant, patientId }, afterId, limit);
  }
}
