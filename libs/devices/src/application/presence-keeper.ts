import { Injectable } from '@nestjs/common';
import { Clock, EventBus, type DomainEvent } from '#kernel';
import type { Device } from '../domain/device.js';
import { deviceConnected, deviceDisconnected, type ConnectionCause } from '../domain/device-events.js';
import { report, seen, type PresenceChange, type StatusReport } from '../domain/presence.js';
import { DeviceRepository } from '../ports/device.repository.js';

/** A device's status report and when it came. */
export interface ReceivedReport {
  readonly deviceId: string;
  readonly report: StatusReport;
  readonly receivedAt: Date;
}

/** Keeps whether devices are online, and tells of each change. */
@Injectable()
export class PresenceKeeper {
  constructor(
    private readonly devices: DeviceRepository,
    private readonly bus: EventBus,
    private readonly clock: Clock,
  ) {}

  /** Takes status reports in, in their order. @returns the events of the changes, for the caller to publish. */
  async take(reports: readonly ReceivedReport[]): Promise<readonly DomainEvent[]> {
    let events: DomainEvent[] = [];
    await this.devices.updatePresence(
      reports.map(({ deviceId }) => deviceId),
      (device) => {
        let { presence } = device;
        for (const received of reports) {
          if (received.deviceId !== device.deviceId) continue;
          const outcome = report(presence, received.report, received.receivedAt);
          presence = outcome.presence;
          events = events.concat(
            changeEvents({ ...device, presence }, outcome.change, received.receivedAt, 'status'),
          );
        }
        return presence;
      },
    );
    return events;
  }

  /** Notes that devices have sent data: device id to the time of receipt. Publishes the changes itself. */
  async noteSeen(arrivals: ReadonlyMap<string, Date>): Promise<void> {
    const back = await this.devices.refreshSeen(arrivals);
    if (back.length === 0) return;
    let events: DomainEvent[] = [];
    await this.devices.updatePresence(back, (device) => {
      const at = arrivals.get(device.deviceId);
      if (!at) return null;
      const { presence, change } = seen(device.presence, at);
      events = events.concat(changeEvents({ ...device, presence }, change, at, 'data'));
      return presence;
    });
    this.bus.announce(events);
  }

  /** Turns devices offline that have been silent for `silence` milliseconds. */
  async expireSilent(silence: number): Promise<void> {
    const now = this.clock.now();
    const expired = await this.devices.expireSilent(new Date(now.getTime() - silence));
    this.bus.announce(expired.map((device) => deviceDisconnected(device, now, 'timeout')));
  }
}

function changeEvents(
  device: Device,
  change: PresenceChange,
  at: Date,
  cause: ConnectionCause,
): DomainEvent[] {
  if (change === 'connected') return [deviceConnected(device, at, cause)];
  if (change === 'disconnected') return [deviceDisconnected(device, at, cause)];
  return [];
}
