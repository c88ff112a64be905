import { Injectable } from '@nestjs/common';
import { Clock } from '#kernel';
import { judgeBattery } from '../domain/battery.js';
import {
  hasHeard,
  havingHeard,
  report,
  seen,
  type LowBatteryNote,
  type Sighting,
  type StatusChange,
} from '../domain/presence.js';
import type { StatusReport } from '../domain/status-report.js';
import { PresenceRepository, type PresenceNews } from '../ports/presence.repository.js';
import { PresenceHerald } from './presence-herald.js';

/** A device's status report and when it came. */
export interface ReceivedReport {
  readonly deviceId: string;
  readonly report: StatusReport;
  readonly receivedAt: Date;
  /** Names the message; null where it can't be delivered again. */
  readonly name: string | null;
  /** It may have been taken in before. */
  readonly isRepeat: boolean;
}

/** Devices turned offline in one transaction. */
const LOT = 5_000;

/** Keeps whether devices are online, and tells of each change. */
@Injectable()
export class PresenceKeeper {
  constructor(
    private readonly presences: PresenceRepository,
    private readonly herald: PresenceHerald,
    private readonly clock: Clock,
  ) {}

  /**
   * Takes status reports in, in their order.
   * @param batteryLimit percent below which a battery is low.
   * @returns what is to be told of, for the caller to tell.
   */
  async take(reports: readonly ReceivedReport[], batteryLimit: number): Promise<PresenceNews> {
    const byDevice = new Map<string, ReceivedReport[]>();
    for (const received of reports) {
      const ofDevice = byDevice.get(received.deviceId);
      if (ofDevice) ofDevice.push(received);
      else byDevice.set(received.deviceId, [received]);
    }
    return this.presences.update([...byDevice.keys()], (device) => {
      let { presence } = device;
      const changes: StatusChange[] = [];
      const lowBatteries: LowBatteryNote[] = [];
      for (const received of byDevice.get(device.deviceId) ?? []) {
        const { name, isRepeat, receivedAt } = received;
        if (name !== null) {
          if (isRepeat && hasHeard(presence, name)) continue;
          presence = havingHeard(presence, name);
        }
        const outcome = report(presence, received.report, receivedAt);
        if (outcome.change) changes.push(outcome.change);
        const judged = judgeBattery(outcome.presence, batteryLimit, receivedAt);
        presence = judged.presence;
        if (judged.lowBattery) lowBatteries.push(judged.lowBattery);
      }
      return { presence, changes, lowBatteries };
    });
  }

  /** Notes that devices have sent data, by their ids. Tells of the changes itself. */
  async noteSeen(sightings: ReadonlyMap<string, Sighting>): Promise<void> {
    const arrivals = new Map([...sightings].map(([deviceId, { at }]) => [deviceId, at]));
    const away = await this.presences.refreshSeen(arrivals);
    if (away.length === 0) return;
    const news = await this.presences.update(away, (device) => {
      const sighting = sightings.get(device.deviceId);
      if (!sighting) return null;
      const { presence, change } = seen(device.presence, sighting);
      return { presence, changes: change ? [change] : [], lowBatteries: [] };
    });
    this.herald.announce(news);
  }

  /** Turns devices offline that were last seen before `before`, unless another replica is at it. */
  async expireSilent(before: Date): Promise<void> {
    const now = this.clock.now();
    for (;;) {
      const news = await this.presences.expireSilent(before, now, LOT);
      if (!news) return;
      this.herald.announce(news);
      if (news.changes.length < LOT) return;
    }
  }
}
