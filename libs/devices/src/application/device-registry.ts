import { Injectable } from '@nestjs/common';
import { Clock, DomainError, EventBus, type Principal } from '#kernel';
import {
  amended,
  decommissioned,
  lockedOut,
  requireInService,
  type Amendment,
  type Device,
  type DeviceDetails,
  type DeviceIdentity,
} from '../domain/device.js';
import { deviceDecommissioned, deviceRegistered, deviceUpdated } from '../domain/device-events.js';
import { BrokerAccess, type DeviceCredentials } from '../ports/broker-access.js';
import {
  DeviceRepository,
  type DeviceFilter,
  type NewDevice,
  type UpdatedDevice,
} from '../ports/device.repository.js';
import { PresenceHerald } from './presence-herald.js';

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
    private readonly herald: PresenceHerald,
  ) {}

  /**
   * Registers a device and makes its account at the broker. The id of a decommissioned device stays taken: readings of
   * another patient may stand under it.
   * @param caller whose tenant it becomes a device of.
   * @throws DomainError forbidden/foreign_patient, conflict/device_already_registered, unavailable/broker_unavailable
   * (nothing is registered then)
   */
  async register(device: Omit<NewDevice, 'tenant'>, caller: Principal): Promise<Registration> {
    requireOwnPatient(caller, device.patientId);
    const registered = await this.devices.insert({ ...device, tenant: caller.tenant });
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
    if (details.patientId !== undefined) requireOwnPatient(caller, details.patientId);
    const now = this.clock.now();
    const { before, after } = await this.update(deviceId, caller, (device) => {
      const changed = amended(device, details, now);
      return changed && { device: changed, change: null };
    });
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
    const { before, after, change } = await this.update(deviceId, caller, (device) =>
      decommissioned(device, now),
    );
    if (change) this.herald.announce({ changes: [change], lowBatteries: [] });
    if (after !== before) this.bus.announce([deviceDecommissioned(after, now)]);
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
    const { change } = await this.update(deviceId, caller, (device) => lockedOut(device, now));
    if (change) this.herald.announce({ changes: [change], lowBatteries: [] });
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

  /**
   * As {@link get}, from memory where that still holds: without what is known of its presence.
   * @throws DomainError not_found/device_not_found
   */
  async identity(deviceId: string, caller: Principal): Promise<DeviceIdentity> {
    const device = (await this.devices.identify([deviceId])).get(deviceId);
    if (!device || !caller.maySee(device)) throw deviceNotFound(deviceId);
    return device;
  }

  /** Registered devices among the given ids, by id. */
  async identify(deviceIds: readonly string[]): Promise<ReadonlyMap<string, DeviceIdentity>> {
    return this.devices.identify(deviceIds);
  }

  /** Those of the devices that have been heard of then or later; data is noted up to two seconds after it came. */
  async heardSince(deviceIds: readonly string[], since: Date): Promise<ReadonlySet<string>> {
    return this.devices.heardSince(deviceIds, since);
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
    change: (device: Device) => Amendment | null,
  ): Promise<UpdatedDevice> {
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
}

/** Nobody gives a device to a patient whom they may not see. */
function requireOwnPatient(caller: Principal, patientId: number): void {
  if (!caller.maySee({ tenant: caller.tenant, patientId }))
    throw new DomainError('forbidden', 'foreign_patient', 'This token is confined to another patient.');
}

function deviceNotFound(deviceId: string): DomainError {
  return new DomainError('not_found', 'device_not_found', `No device ${deviceId} is registered.`);
}
