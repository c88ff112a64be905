import { Injectable } from '@nestjs/common';
import { EventBus, eventDataJson, type DomainEvent, type Principal } from '#kernel';
import { mayHear, passes, type StreamFilter } from '../domain/stream-filter.js';

/** How a kind of watcher receives its messages. */
export interface FrameFormat {
  /** The bytes of messages, each given as JSON. */
  encode(messages: readonly string[]): Buffer;
}

/** Someone who watches the stream. */
export interface Watcher {
  readonly principal: Principal;
  readonly filter: StreamFilter;
  readonly format: FrameFormat;
  /** Must neither throw nor wait. */
  send(frames: Buffer): void;
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
    const messages = new Messages(events);
    for (const watcher of this.watchers) {
      const wanted: number[] = [];
      events.forEach((event, index) => {
        if (mayHear(watcher.principal, event) && passes(watcher.filter, event)) wanted.push(index);
      });
      if (wanted.length > 0) watcher.send(messages.framesOf(wanted, watcher.format));
    }
  }
}

/** Events that are told together, as they are sent. */
class Messages {
  private readonly texts: string[] = [];
  /** All of them, for those who see all. */
  private readonly whole = new Map<FrameFormat, Buffer>();

  constructor(private readonly events: readonly DomainEvent[]) {}

  /** @param wanted which of the events, in their order. */
  framesOf(wanted: readonly number[], format: FrameFormat): Buffer {
    if (wanted.length < this.events.length) return format.encode(wanted.map((index) => this.textOf(index)));
    let frames = this.whole.get(format);
    if (!frames) {
      frames = format.encode(wanted.map((index) => this.textOf(index)));
      this.whole.set(format, frames);
    }
    return frames;
  }

  private textOf(index: number): string {
    return (this.texts[index] ??= liveMessage(this.events[index] as DomainEvent));
  }
}
