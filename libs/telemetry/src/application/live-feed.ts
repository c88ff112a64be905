import { Injectable } from '@nestjs/common';
import { EventBus, eventDataJson, type DomainEvent } from '#kernel';
import { StreamPosition } from '../domain/stream-position.js';
import { StreamLog, type NotedEvent } from '../ports/stream-log.js';
import { Audience, type FrameFormat, type StreamMessage, type Watcher } from './audience.js';

/** An event as watchers read it. */
export function streamMessage(event: DomainEvent, at: StreamPosition): StreamMessage {
  const id = at.idOf(event.id);
  const text = `{"event":"${event.type}","id":${JSON.stringify(id)},"time":"${event.time}","data":${eventDataJson(event)}}`;
  return { id, type: event.type, text };
}

/** What the stream has done since the start. */
export interface StreamCounts {
  /** Messages handed to connections, replayed ones included. */
  sent: number;
  replays: number;
  /** Events told again. */
  replayed: number;
  /** Connections given up because they did not read. */
  dropped: number;
}

/**
 * Passes events on to everyone who watches: serialised once, sent to those who may and want to see them. It decides the
 * order in which events are told, and has those written down that no stored message tells of.
 */
@Injectable()
export class LiveFeed {
  private readonly audience = new Audience();
  /** Those who watch, and those who are still told what they missed. */
  private readonly clients = new Set<Watcher>();
  private reached: StreamPosition | undefined;
  /** What is told in this turn of the event loop: under load it is much, and each connection is written to but once. */
  private burst: { readonly events: DomainEvent[]; readonly positions: StreamPosition[] } | null = null;
  /** What is told of before this run has its number. */
  private readonly early: (() => void)[] = [];
  readonly counts: StreamCounts = { sent: 0, replays: 0, replayed: 0, dropped: 0 };
  /** Resolves once {@link position} is known. */
  readonly opened: Promise<void>;

  constructor(
    bus: EventBus,
    private readonly log: StreamLog,
  ) {
    bus.subscribe({ name: 'live-feed', handle: (events) => this.take(events) });
    this.opened = log.opened.then((epoch) => {
      this.reached = new StreamPosition(epoch, 0, 0, 0);
      for (const tell of this.early.splice(0)) tell();
    });
  }

  /** How many want to be told. */
  get size(): number {
    return this.clients.size;
  }

  /** Whether {@link position} is known. */
  get isOpen(): boolean {
    return this.reached !== undefined;
  }

  /** Behind the last event that was told of. */
  get position(): StreamPosition {
    if (!this.reached) throw new Error('the stream has not begun');
    return this.reached;
  }

  /** Counts somebody who may not be told of anything yet. */
  enter(watcher: Watcher): void {
    this.clients.add(watcher);
  }

  /** Tells somebody of nothing any more. */
  leave(watcher: Watcher): void {
    this.clients.delete(watcher);
    this.audience.remove(watcher);
  }

  /** Tells somebody of all that is told from now on: behind {@link position}, and of nothing before. */
  add(watcher: Watcher): void {
    this.flush();
    this.audience.add(watcher);
  }

  remove(watcher: Watcher): void {
    this.audience.remove(watcher);
  }

  private take(events: readonly DomainEvent[]): void | Promise<void> {
    if (this.reached) return this.tell(events);
    return new Promise((resolve, reject) => {
      this.early.push(() => void Promise.resolve(this.tell(events)).then(resolve, reject));
    });
  }

  /** @returns a promise where something is to be written down. */
  private tell(events: readonly DomainEvent[]): void | Promise<void> {
    const noted: NotedEvent[] = [];
    const isWatched = this.audience.size > 0;
    const { epoch } = this.position;
    let { place, index, other } = this.position;
    for (const event of events) {
      const { logged } = event;
      if (logged) {
        ({ place, index } = logged);
      } else {
        other += 1;
        noted.push({ place, other, event });
      }
      if (isWatched) this.enqueue(event, new StreamPosition(epoch, place, index, other));
    }
    this.reached = new StreamPosition(epoch, place, index, other);
    if (noted.length > 0) return this.log.note(noted);
  }

  private enqueue(event: DomainEvent, position: StreamPosition): void {
    if (!this.burst) {
      this.burst = { events: [], positions: [] };
      setImmediate(() => this.flush());
    }
    this.burst.events.push(event);
    this.burst.positions.push(position);
  }

  private flush(): void {
    if (!this.burst) return;
    const { events, positions } = this.burst;
    this.burst = null;
    const messages = new Messages(events, positions);
    for (const [group, wanted] of this.audience.match(events)) {
      for (const [format, watchers] of group.members) {
        const frames = messages.framesOf(wanted, format);
        for (const watcher of watchers) watcher.send(frames, wanted.length);
      }
    }
  }
}

/** Events that are told together, as they are sent. */
class Messages {
  private readonly made: StreamMessage[] = [];
  /** All of them, for those who see all. */
  private readonly whole = new Map<FrameFormat, Buffer>();

  constructor(
    private readonly events: readonly DomainEvent[],
    private readonly positions: readonly StreamPosition[],
  ) {}

  /** @param wanted which of the events, in their order. */
  framesOf(wanted: readonly number[], format: FrameFormat): Buffer {
    if (wanted.length < this.events.length)
      return format.encode(wanted.map((place) => this.messageOf(place)));
    let frames = this.whole.get(format);
    if (!frames) {
      frames = format.encode(wanted.map((place) => this.messageOf(place)));
      this.whole.set(format, frames);
    }
    return frames;
  }

  private messageOf(place: number): StreamMessage {
    return (this.made[place] ??= streamMessage(
      this.events[place] as DomainEvent,
      this.positions[place] as StreamPosition,
    ));
  }
}
