import { setImmediate as nextTurn } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { MessageRejected, type DomainEvent } from '#kernel';
import { mayHear, passes } from '../domain/stream-filter.js';
import { besideOf, StreamPosition } from '../domain/stream-position.js';
import {
  StreamLog,
  type EventEntry,
  type LoggedMessage,
  type LogRow,
  type Stretch,
} from '../ports/stream-log.js';
import type { StreamMessage, Watcher } from './audience.js';
import { DataReceived } from './data-received.js';
import { decodeBounded } from './decode-bounded.js';
import { streamMessage, type Told } from './live-feed.js';
import { inOrder } from './log-order.js';
import { FewAtOnce } from './few-at-once.js';

/** Events, and bytes of the messages that tell of them, made at once before anything else has its turn. */
const CHUNK = 250;
const CHUNK_BYTES = 65_536;
/** Listeners for whom the log is read at once. */
const READERS = 4;
/** Who has read so long lets the next one read. */
const TURN_MS = 50;

/** Who is told again. */
export interface Listener extends Pick<Watcher, 'principal' | 'filter'> {
  /** Must neither throw nor wait. */
  tell(messages: readonly StreamMessage[]): void;
  /** Whether there is room for more. */
  hasRoom(): boolean;
  /** Resolves when there is room again; to false when nobody listens any more. */
  roomAgain(): Promise<boolean>;
}

/** What is to be told of what the log holds. */
export interface Wants {
  /** Most messages are another's, or of another device: they need not be decoded. */
  concerns(message: LoggedMessage): boolean;
  hears(event: DomainEvent): boolean;
}

/** A step on the way through the log. */
interface Step {
  /** The run it is in. */
  readonly epoch: number;
  readonly told: readonly Told[];
  /** How far the run has been read; null: to its end. */
  readonly reached: StreamPosition | null;
}

/** Tells events again, from the log: to whom and as they were told live. */
@Injectable()
export class StreamReplay {
  private readonly readers = new FewAtOnce(READERS);

  constructor(private readonly log: StreamLog) {}

  /**
   * Whether everything from a position on can be told again.
   * @throws DomainError invalid/since_unknown, invalid/since_too_old
   */
  async check(after: StreamPosition, until: StreamPosition): Promise<void> {
    await this.log.stretches(after, until);
  }

  /**
   * Tells what a listener may and wants to see of what was told behind one position and up to another, in its order. So
   * that many can come back at once, a few at a time read, and whoever has to be waited for keeps nothing but its position
   * meanwhile.
   * @returns false when nobody listens any more.
   * @throws DomainError invalid/since_unknown, invalid/since_too_old, also in the middle
   */
  async tell(after: StreamPosition, until: StreamPosition, listener: Listener): Promise<boolean> {
    const stretches = await this.log.stretches(after, until);
    // What is told may still be on its way into the log.
    await this.log.settled();
    const passage = new Passage(after, stretches);
    while (await listener.roomAgain()) {
      if (passage.isOver) return true;
      await this.readers.enter();
      try {
        await this.goOn(passage, listener);
      } finally {
        this.readers.leave();
      }
    }
    return false;
  }

  /**
   * What the log holds of stretches, in the order of telling in each run, and between them by the time it was written.
   * @throws DomainError invalid/since_too_old
   */
  async *steps(stretches: readonly Stretch[], wants: Wants): AsyncGenerator<Step> {
    const ways = new Map(stretches.map((stretch) => [stretch.after.epoch, new Way(stretch, wants)]));
    const read = (stretch: Stretch, from: LogRow | null): Promise<readonly LogRow[]> =>
      this.log.read(stretch, (ways.get(stretch.after.epoch) as Way).reached, from);
    for await (const { stretch, row } of inOrder(stretches.filter(isUnread), read)) {
      const { epoch } = stretch.after;
      const way = ways.get(epoch) as Way;
      if (!row) {
        yield { epoch, told: [], reached: stretch.until };
        continue;
      }
      let told: Told[] = [];
      let bytes = 0;
      for (const entry of row.entries()) {
        const before = told.length;
        way.pass(row, entry, told);
        if (told.length > before && 'payload' in entry) bytes += entry.payload.length;
        if (told.length < CHUNK && bytes < CHUNK_BYTES) continue;
        yield { epoch, told, reached: way.reached };
        told = [];
        bytes = 0;
        await nextTurn();
      }
      yield { epoch, told, reached: way.reached };
    }
  }

  /** As far as there is room, and as the others let it. */
  private async goOn(passage: Passage, listener: Listener): Promise<void> {
    let begun: number | null = null;
    for await (const step of this.steps(passage.left, wantsOf(listener))) {
      begun ??= performance.now();
      for (const messages of passage.pass(step)) {
        if (messages.length > 0) listener.tell(messages);
        if (listener.hasRoom()) continue;
        // What the system takes at once is gone by then.
        await nextTurn();
        if (!listener.hasRoom()) return;
      }
      if (this.readers.isWanted && performance.now() - begun > TURN_MS) return;
    }
  }
}

/** How far a listener has come, in each run. */
class Passage {
  private readonly reached: Map<number, StreamPosition>;
  /** Runs that were read to their end. */
  private readonly ended = new Set<number>();

  constructor(
    after: StreamPosition,
    private readonly stretches: readonly Stretch[],
  ) {
    this.reached = new Map(after.parts);
  }

  /** What is still to be told. */
  get left(): readonly Stretch[] {
    return this.stretches
      .filter(({ after: { epoch } }) => !this.ended.has(epoch))
      .map((stretch) => ({ ...stretch, after: this.reached.get(stretch.after.epoch) ?? stretch.after }))
      .filter(isUnread);
  }

  get isOver(): boolean {
    return this.left.length === 0;
  }

  /** Goes on by a step. Where it is left off, only what was given out counts. */
  *pass({ epoch, told, reached }: Step): Generator<readonly StreamMessage[]> {
    if (!this.reached.has(epoch)) this.reached.set(epoch, StreamPosition.startOf(epoch));
    // What is over and read is named no more, but for the newest of all: what came after it was not seen.
    for (const over of this.ended) if (Math.max(...this.reached.keys()) > over) this.reached.delete(over);
    const beside = besideOf(epoch, this.reached);
    let messages: StreamMessage[] = [];
    let bytes = 0;
    for (const { event, at } of told) {
      const message = streamMessage(event, at.with(beside));
      messages.push(message);
      bytes += message.text.length;
      if (bytes < CHUNK_BYTES) continue;
      this.reached.set(epoch, at);
      yield messages;
      messages = [];
      bytes = 0;
    }
    if (reached) this.reached.set(epoch, reached);
    else this.ended.add(epoch);
    yield messages;
  }
}

function isUnread({ after, until }: Stretch): boolean {
  return !until || !after.covers(until);
}

function wantsOf({ principal, filter }: Listener): Wants {
  return {
    concerns: ({ device }) => {
      if (!principal.maySee(device)) return false;
      if (filter.events && !filter.events.has('device.data.received')) return false;
      if (filter.deviceIds && !filter.deviceIds.has(device.deviceId)) return false;
      return !filter.patientIds || filter.patientIds.has(device.patientId);
    },
    hears: (event) => mayHear(principal, event) && passes(filter, event),
  };
}

/** How far a run has been read. */
class Way {
  reached: StreamPosition;
  private readonly until: StreamPosition | null;

  constructor(
    { after, until }: Stretch,
    private readonly wants: Wants,
  ) {
    this.reached = after;
    this.until = until;
  }

  /** Goes past an entry, where it lies on the way. @param into takes what is to be told of it. */
  pass({ other }: LogRow, entry: LoggedMessage | EventEntry, into: Told[]): void {
    const { place } = entry;
    if ('event' in entry) {
      if (other === 0 && !this.isAhead(place, 0)) return;
      this.reached = other === 0 ? this.reached.afterMessage(place, 0) : this.reached.afterOther(other);
      this.tell(entry.event, into);
      return;
    }
    const last = this.lastOf(entry);
    if (!this.isAhead(place, last)) return;
    const { epoch } = this.reached;
    for (const event of this.wants.concerns(entry) ? eventsOf(entry, epoch) : []) {
      const index = event.logged?.index ?? 0;
      if (!this.isAhead(place, index)) continue;
      this.reached = this.reached.afterMessage(place, index);
      this.tell(event, into);
    }
    this.reached = this.reached.afterMessage(place, last);
  }

  /** A row may hold more on either side. */
  private isAhead(place: number, index: number): boolean {
    return this.reached.isBefore(place, index) && !this.until?.isBefore(place, index);
  }

  /** The last event of a message that lies on the way. */
  private lastOf({ place, events }: LoggedMessage): number {
    const isCut = this.until?.isBefore(place, events - 1) && this.until.place === place;
    return isCut ? (this.until as StreamPosition).index : events - 1;
  }

  private tell(event: DomainEvent, into: Told[]): void {
    if (this.wants.hears(event)) into.push({ event, at: this.reached });
  }
}

/** What a message told of when it came in; nothing where a later version would not take it in. */
function eventsOf(message: LoggedMessage, epoch: number): readonly DataReceived[] {
  const { place, payload, device, receivedAt } = message;
  let id: string | undefined;
  const name = (): string => (id ??= message.id());
  const stand = { epoch, place };
  try {
    return decodeBounded(message.parse(), payload.length, device, receivedAt).map(
      (measurement, index) => new DataReceived(name, index, device, measurement, receivedAt, stand),
    );
  } catch (error) {
    if (error instanceof MessageRejected) return [];
    throw error;
  }
}
