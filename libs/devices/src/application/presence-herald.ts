import { Injectable } from '@nestjs/common';
import { EventBus, type DomainEvent } from '#kernel';
import { batteryLow, statusChanged } from '../domain/device-events.js';
import { PresenceRepository, type PresenceNews } from '../ports/presence.repository.js';

const LOT = 500;

/**
 * Tells of what has become of devices. What is told of is kept until that is done: where a process dies in between,
 * another tells it, under the same ids.
 */
@Injectable()
export class PresenceHerald {
  constructor(
    private readonly presences: PresenceRepository,
    private readonly bus: EventBus,
  ) {}

  /** Tells of it without being waited for. What can't be told now is told later. */
  announce(news: PresenceNews): void {
    void this.tell(news).catch(() => undefined);
  }

  /** Tells of what others did not get to tell. @throws what the database or a receiver says. */
  async tellUntold(): Promise<void> {
    for (;;) {
      const news = await this.presences.claimUntold(LOT);
      if (isEmpty(news)) return;
      await this.tell(news);
    }
  }

  /** Notes that it has been told of. Best effort: told again, it bears the same ids. */
  async told(news: PresenceNews): Promise<void> {
    if (!isEmpty(news)) await this.presences.markTold(news).catch(() => undefined);
  }

  private async tell(news: PresenceNews): Promise<void> {
    await this.bus.publish(eventsOf(news));
    await this.told(news);
  }
}

/** The events of it, in their order. */
export function eventsOf({ changes, lowBatteries }: PresenceNews): readonly DomainEvent[] {
  return [...changes.map(statusChanged), ...lowBatteries.map(batteryLow)];
}

function isEmpty({ changes, lowBatteries }: PresenceNews): boolean {
  return changes.length === 0 && lowBatteries.length === 0;
}
