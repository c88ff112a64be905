import { Injectable } from '@nestjs/common';
import { Clock, DomainError, EventBus, type DomainEvent, type Principal } from '#kernel';
import {
  amended,
  cutOff,
  decommissioned,
  requireInService,
  type Device,
  type DeviceDetails,
  type DeviceIdentity,
} from '../domain/device.js';
import {
  deviceDecommissioned,
  deviceDisconnected,
  deviceRegistered,
  deviceUpdated,
} from '../domain/device-events.js';
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
    private readonly clock: Clock,
  ) {}

  /**
   * Registers a device and makes its account at the broker. The id of a decommissioned device stays taken: readings of
   * another patient may stand under it.
   * @throws DomainError forbidden/foreign_patient, conflict/device_already_registered, unavailable/broker_unavailable
   * (nothing is registered then)
   */
  async register(device: NewDevice, caller: Principal): Promise<Registration> {
    requireOwnPatient(device.patientId, caller);
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
      credentials = await this.issue(registered.deviceId);
    } catch (error) {
      // Without its account the device could not connect, and a second try would meet a conflict. Where even this fails,
      // a rotation of its credentials gives it an account.
      await this.devices.remove(registered.deviceId).catch(() => undefined);
      throw error;
    }
    this.bus.announce([deviceRegistered(registered)]);
    return { device: registered, credentials };
  }

  /**
   * Gives a device to another patient, or corrects what is known of it. Of two at once, each changes what it names.
   * @throws DomainError not_found/device_not_found, conflict/device_decommissioned, forbidden/foreign_patient
   */
  async amend(deviceId: string, details: Partial<DeviceDetails>, caller: Principal): Promise<Device> {
    if (details.patientId !== undefined) requireOwnPatient(details.patientId, caller);
    const now = this.clock.now();
    const { before, after } = await this.update(deviceId, caller, (device) => amended(device, details, now));
    if (after !== before) this.bus.announce([deviceUpdated(after, before, now)]);
    return after;
  }

  /**
   * Ends a device's service for good: nothing it sends is taken in from now on, and it is cut off from the broker.
   * Its readings are kept, so its id stays taken. Doing it again does again what the broker may have missed.
   * @throws DomainError not_found/device_not_found; unavailable/broker_unavailable when the device is decommissioned, but
   * its account could not be revoked yet.
   */
  async decommission(deviceId: string, caller: Principal): Promise<void> {
    const now = this.clock.now();
    const { before, after } = await this.update(deviceId, caller, (device) => decommissioned(device, now));
    if (after !== before) {
      this.bus.announce([...this.cutOffEvents(before, after, now), deviceDecommissioned(after, now)]);
    }
    await this.brokerAccess.revoke(deviceId);
  }

  /**
   * Replaces a device's account at the broker; who is connected with the old one is cut off.
   * @throws DomainError not_found/device_not_found, conflict/device_decommissioned, conflict/broker_managed_elsewhere,
   * unavailable/broker_unavailable
   */
  async rotateCredentials(deviceId: string, caller: Principal): Promise<DeviceCredentials> {
    requireInService(await this.get(deviceId, caller));
    const credentials = await this.issue(deviceId);
    if (!credentials) {
      throw new DomainError(
        'conflict',
        'broker_managed_elsewhere',
        'Accounts at the broker are not kept by this service (BROKER_ACCESS).',
      );
    }
    const now = this.clock.now();
    const { before, after } = await this.update(deviceId, caller, (device) => ({
      ...device,
      presence: cutOff(device.presence),
    }));
    this.bus.announce(this.cutOffEvents(before, after, now));
    return credentials;
  }

  /**
   * @param caller sees another patient's or another tenant's device no more than one that does not exist.
   * @throws DomainError not_found/device_not_found
   */
  async get(deviceId: string, caller: Principal): Promise<Device> {
    const device = await this.devices.find(deviceId);
    if (!device || !caller.maySee(device)) throw deviceNotFound(deviceId);
    return device;
  }

  /** Registered devices among the given ids, by id. */
  async identify(deviceIds: readonly string[]): Promise<ReadonlyMap<string, DeviceIdentity>> {
    return this.devices.identify(deviceIds);
  }

  /** A page of the devices in service that the caller may see, in the order of registration. */
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

  private async update(
    deviceId: string,
    caller: Principal,
    change: (device: Device) => Device | null,
  ): Promise<{ readonly before: Device; readonly after: Device }> {
    const updated = await this.devices.update(deviceId, (device) => {
      if (!caller.maySee(device)) throw deviceNotFound(deviceId);
      return change(device);
    });
    if (!updated) throw deviceNotFound(deviceId);
    return updated;
  }

  /** Makes an account, and sees to it that a device decommissioned meanwhile has none. */
  private async issue(deviceId: string): Promise<DeviceCredentials | null> {
    const credentials = await this.brokerAccess.issue(deviceId);
    const device = await this.devices.find(deviceId);
    if (device?.decommissionedAt) {
      await this.brokerAccess.revoke(deviceId);
      requireInService(device);
    }
    return credentials;
  }

  private cutOffEvents(before: Device, after: Device, at: Date): readonly DomainEvent[] {
    if (before.presence.status === after.presence.status) return [];
    return [deviceDisconnected(after, at, after.decommissionedAt ? 'decommissioned' : 'credentials')];
  }
}

/** Whoever is confined to a patient gives devices to nobody else. */
function requireOwnPatient(patientId: number, caller: Principal): void {
  if (caller.maySee({ tenant: caller.tenant, patientId })) return;
  throw new DomainError('forbidden', 'foreign_patient', 'This token is confined to another patient.');
}

function deviceNotFound(deviceId: string): DomainError {
  return new DomainError('not_found', 'device_not_found', `No device ${deviceId} is registered.`);
}
