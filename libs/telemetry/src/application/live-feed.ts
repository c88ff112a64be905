import { Injectable } from '@nestjs/common';
import { EventBus, eventDataJson, type DomainEvent, type Principal } from '#kernel';
import { passes, type StreamFilter } from '../domain/stream-filter.js';

/** How a kind of watcher receives its messages. */
export interface FrameFormat {
  /** The bytes of a message, given as JSON. */
  encode(message: string): Buffer;
}

/** Someone who watches the stream. */
export interface Watcher {
  readonly principal: Principal;
  readonly filter: StreamFilter;
  readonly format: FrameFormat;
  /** Must neither throw nor wait. */
  send(frame: Buffer): void;
  /** Several frames follow: what they need to be written together is kept until {@link flush}. */
  gather(): void;
  flush(): void;
}

/** An event as watchers read it. */
function liveMessage(event: DomainEvent): string {
  return `{"event":"${event.type}","id":${JSON.stringify(event.id)},"time":"${event.time}","data":${eventDataJson(event)}}`;
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
    if (this.watchers.size === 0) return;
    const addressed = new Set<Watcher>();
    for (const event of events) {
      let frame: Buffer | undefined;
      let format: FrameFormat | undefined;
      for (const watcher of this.watchers) {
        if (!watcher.principal.maySee(event) || !passes(watcher.filter, event)) continue;
        // Made anew only where watchers of several kinds take turns.
        if (!frame || format !== watcher.format) {
          format = watcher.format;
          frame = format.encode(liveMessage(event));
        }
        if (!addressed.has(watcher)) {
          addressed.add(watcher);
          watcher.gather();
        }
        watcher.send(frame);
      }
    }
    for (const watcher of addressed) watcher.flush();
  }
}
