import { Injectable } from '@nestjs/common';
import { EventBus, eventData, type DomainEvent, type Principal } from '#kernel';
import { passes, type StreamFilter } from '../domain/stream-filter.js';

/** Someone who watches the stream. */
export interface Watcher {
  readonly principal: Principal;
  readonly filter: StreamFilter;
  /** Must neither throw nor wait. */
  send(frame: Buffer): void;
}

/** Serialises an event for watchers. */
function liveMessage(event: DomainEvent): Buffer {
  return Buffer.from(
    JSON.stringify({ event: event.type, id: event.id, time: event.time, data: eventData(event) }),
  );
}

/** Passes events on to everyone who watches: serialised once, sent to those who may and want to see them. */
@Injectable()
export class LiveFeed {
  private readonly watchers = new Set<Watcher>();

  constructor(bus: EventBus) {
    bus.subscribe({ name: 'live-feed', handle: (events) => this.broadcast(events) });
  }

  get size(): number {
    return this.watchers.size;
  }

  add(watcher: Watcher): void {
    this.watchers.add(watcher);
  }

  remove(watcher: Watcher): void {
    this.watchers.delete(watcher);
  }

  private broadcast(events: readonly DomainEvent[]): void {
    for (const event of events) {
      let frame: Buffer | undefined;
      for (const watcher of this.watchers) {
        if (!watcher.principal.maySee(event.patientId) || !passes(watcher.filter, event)) continue;
        frame ??= liveMessage(event);
        watcher.send(frame);
      }
    }
  }
}
