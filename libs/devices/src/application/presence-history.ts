import { Injectable } from '@nestjs/common';
import type { Principal } from '#kernel';
import { shownSince } from '../domain/device.js';
import type { KeptChange } from '../domain/device-events.js';
import { PresenceRepository } from '../ports/presence.repository.js';
import { DeviceRegistry } from './device-registry.js';

/** Answers when a device was online, to those who may see the device. */
@Injectable()
export class PresenceHistory {
  constructor(
    private readonly registry: DeviceRegistry,
    private readonly presences: PresenceRepository,
  ) {}

  /**
   * A page of the changes, newest first. Whoever is confined to a patient sees nothing of before the device was that
   * patient's.
   * @param before the id that the page begins behind.
   * @throws DomainError not_found/device_not_found
   */
  async page(
    deviceId: string,
    before: number | null,
    limit: number,
    caller: Principal,
  ): Promise<readonly KeptChange[]> {
    const from = shownSince(await this.registry.get(deviceId, caller), caller);
    return this.presences.history({ deviceId, from }, before, limit);
  }
}
