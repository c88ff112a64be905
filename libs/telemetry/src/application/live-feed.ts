import { Injectable } from '@nestjs/common';
import { EventBus, eventDataJson, type DomainEvent } from '#kernel';
import { besideOf, LAST_INDEX, StreamPosition } from '../domain/stream-position.js';
import { StreamLog, type NotedEvent } from '../ports/stream-log.js';
import { Audience, type FrameFormat, type StreamMessage, type Watcher } from './audience.js';
import { RecentNames } from './recent-names.js';

/** An event as watchers read it. */
export function streamMessage(event: DomainEvent, at: StreamPosition): StreamMessage {
  const id = at.idOf(event.id);
  const text = `{"event":"${event.type}","id":${JSON.stringify(id)},"time":"${event.time}","data":${eventDataJson(event)}}`;
  return { id, type: event.type, text };
}

/** An event that another run has told of, and the position behind it in that run. */
export interface Told {
  readonly event: DomainEvent;
  readonly at: StreamPosition;
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

/** Whoever sees to it that the events of other replicas are told here. */
export interface Neighbours {
  /** Asked before local events are told: whether something that others have told comes first. */
  gate(events: readonly DomainEvent[]): (() => Promise<void>) | null;
  /** Local events were told. */
  told(): void;
  /** Somebody has come to watch. */
  entered(): void;
  /** Resolves when everything was told here that a position has seen elsewhere. */
  reach(position: StreamPosition): Promise<void>;
}

/**
 * Passes events on to everyone who watches: serialised once, sent to those who may and want to see them. It decides the
 * order in which events are told, and has those written down that no stored message tells of. Those of other replicas are
 * given to it ({@link tellOf}) as they come from the log.
 */
@Injectable()
export class LiveFeed {
  readonly audience = new Audience();
  /** Those who watch, and those who are still told what they missed. */
  private readonly clients = new Set<Watcher>();
  /** What is told in this turn of the event loop: under load it is much, and each connection is written to but once. */
  private burst: { readonly events: DomainEvent[]; readonly positions: StreamPosition[] } | null = null;
  /** Behind the last event that was told of, in each run of the service that may still tell something. */
  private readonly reached = new Map<number, StreamPosition>();
  /** This run. */
  private own = 0;
  /** What is told of before this run has its number. */
  private readonly early: (() => void)[] = [];
  /** Events of other kinds that were told lately: where a process dies, another may tell them again. */
  private readonly names = new RecentNames();
  /** The last that waits for what others have told; null: nothing waits. */
  private line: Promise<void> | null = null;
  private neighbours: Neighbours | undefined;
  private resolveOpened: () => void = () => undefined;
  readonly counts: StreamCounts = { sent: 0, replays: 0, replayed: 0, dropped: 0 };
  /** Resolves once {@link position} is known. */
  readonly opened: Promise<void>;

  constructor(
    bus: EventBus,
    private readonly log: StreamLog,
  ) {
    bus.subscribe({ name: 'live-feed', handle: (events) => this.take(events) });
    this.opened = new Promise((resolve) => (this.resolveOpened = resolve));
  }

  /** How many want to be told. */
  get size(): number {
    return this.clients.size;
  }

  /** Whether {@link position} is known. */
  get isOpen(): boolean {
    return this.own !== 0;
  }

  /** Behind the last events that were told of. */
  get position(): StreamPosition {
    const own = this.reached.get(this.own);
    if (!own) throw new Error('the stream has not begun');
    return own.with(besideOf(this.own, this.reached));
  }

  /** The same, run by run. */
  get positions(): ReadonlyMap<number, StreamPosition> {
    return this.reached;
  }

  /**
   * Begins to tell.
   * @param others how far the other runs have told.
   */
  open(others: readonly StreamPosition[], neighbours: Neighbours): void {
    this.reachIn(others);
    this.neighbours = neighbours;
    this.beginRun();
    this.resolveOpened();
    for (const tell of this.early.splice(0)) tell();
  }

  /** Counts somebody who may not be told of anything yet. */
  enter(watcher: Watcher): void {
    this.clients.add(watcher);
    this.neighbours?.entered();
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

  /** Tells somebody of nothing that is told from now on. */
  remove(watcher: Watcher): void {
    this.flush();
    this.audience.remove(watcher);
  }

  /**
   * Resolves when everything was told here that a position has seen, perhaps at another replica.
   * @throws DomainError unavailable/replica_behind
   */
  async reach(position: StreamPosition): Promise<void> {
    await this.neighbours?.reach(position);
  }

  /** Goes on from there in other runs, in their order. */
  reachIn(others: readonly StreamPosition[]): void {
    for (const position of others) this.reached.set(position.epoch, position);
  }

  /** Names a run no more: all of it was told. Of the newest of all that must be said. */
  forget(epoch: number): void {
    if (epoch !== this.own && Math.max(...this.reached.keys()) > epoch) this.reached.delete(epoch);
  }

  /**
   * Tells what another run has told of.
   * @param reached how far that is in its run.
   */
  tellOf(told: readonly Told[], reached: StreamPosition): void {
    const { epoch } = reached;
    const fresh = told.filter(({ event }) => event.logged || this.names.add(`${event.type} ${event.id}`));
    if (fresh.length > 0 && this.audience.size > 0) {
      const beside = besideOf(epoch, this.reached);
      for (const { event, at } of fresh) this.enqueue(event, at.with(beside));
    }
    this.reached.set(epoch, reached);
  }

  /** After it was taken for dead, a run goes on as another. */
  beginRun(): void {
    const { epoch } = this.log;
    if (epoch === this.own) return;
    const other = this.reached.get(this.own)?.other ?? 0;
    this.own = epoch;
    this.reached.set(epoch, new StreamPosition(epoch, 0, 0, other));
  }

  private take(events: readonly DomainEvent[]): void | Promise<void> {
    if (this.own === 0) {
      return new Promise((resolve, reject) => {
        this.early.push(() => void Promise.resolve(this.take(events)).then(resolve, reject));
      });
    }
    const wait = this.neighbours?.gate(events);
    if (!wait && !this.line) return this.tell(events);
    let noted: void | Promise<void>;
    const told = (this.line ?? Promise.resolve()).then(wait ?? (() => undefined)).then(() => {
      noted = this.tell(events);
    });
    const line = told
      .catch(() => undefined)
      .finally(() => {
        if (this.line === line) this.line = null;
      });
    this.line = line;
    return told.then(() => noted);
  }

  /** @returns a promise where something is to be written down. */
  private tell(events: readonly DomainEvent[]): void | Promise<void> {
    this.beginRun();
    const noted: NotedEvent[] = [];
    const isWatched = this.audience.size > 0;
    const epoch = this.own;
    const beside = besideOf(epoch, this.reached);
    let { place, index, other } = this.position;
    for (const event of events) {
      const { logged } = event;
      if (logged) {
        const { repeats } = logged;
        // Told before, or told by whoever reads the log.
        if (repeats !== undefined && repeats > place) [place, index] = [repeats, LAST_INDEX];
        if (repeats !== undefined || logged.epoch !== epoch) continue;
        ({ place, index } = logged);
      } else {
        if (!this.names.add(`${event.type} ${event.id}`)) continue;
        other += 1;
        noted.push({ place, other, event });
      }
      if (isWatched) this.enqueue(event, new StreamPosition(epoch, place, index, other, beside));
    }
    this.reached.set(epoch, new StreamPosition(epoch, place, index, other));
    const written = noted.length > 0 ? this.log.note(noted) : undefined;
    // Not before: what is not known to be on its way into the log would be said to be there.
    this.neighbours?.told();
    return written;
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
