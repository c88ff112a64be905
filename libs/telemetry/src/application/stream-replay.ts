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

/** Messages made at once, before others have their turn. */
const CHUNK = 250;

type Reader = Pick<Watcher, 'principal' | 'filter'>;

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
  constructor(private readonly log: StreamLog) {}

  /**
   * Whether everything from a position on can be told again.
   * @throws DomainError invalid/since_unknown, invalid/since_too_old
   */
  async check(after: StreamPosition, until: StreamPosition): Promise<void> {
    await this.log.stretches(after, until);
  }

  /**
   * What a reader may and wants to see of what was told behind one position and up to another, in its order.
   * @throws DomainError invalid/since_unknown, invalid/since_too_old, also in the middle
   */
  async *between(
    after: StreamPosition,
    until: StreamPosition,
    reader: Reader,
  ): AsyncGenerator<readonly StreamMessage[]> {
    const reached = new Map(after.parts);
    const ended = new Set<number>();
    for await (const step of this.steps(await this.log.stretches(after, until), wantsOf(reader))) {
      const { epoch } = step;
      const [first] = step.told;
      if (!reached.has(epoch)) reached.set(epoch, StreamPosition.startOf(epoch));
      // What is over and read is named no more, but for the newest of all: what came after it was not seen.
      for (const over of ended) if (Math.max(...reached.keys()) > over) reached.delete(over);
      if (first) {
        const beside = besideOf(epoch, reached);
        yield step.told.map(({ event, at }) => streamMessage(event, at.with(beside)));
      }
      if (step.reached) reached.set(epoch, step.reached);
      else ended.add(epoch);
    }
  }

  /**
   * What the log holds of stretches, in the order of telling in each run, and between them by the time it was written.
   * @throws DomainError invalid/since_too_old
   */
  async *steps(stretches: readonly Stretch[], wants: Wants): AsyncGenerator<Step> {
    // What is told may still be on its way into the log.
    await this.log.settled();
    const ways = new Map(stretches.map((stretch) => [stretch.after.epoch, new Way(stretch, wants)]));
    const read = (stretch: Stretch, from: LogRow | null): Promise<readonly LogRow[]> =>
      this.log.read(stretch, (ways.get(stretch.after.epoch) as Way).reached, from);
    const unread = stretches.filter(({ after, until }) => !until || !after.covers(until));
    for await (const { stretch, row } of inOrder(unread, read)) {
      const { epoch } = stretch.after;
      const way = ways.get(epoch) as Way;
      if (!row) {
        yield { epoch, told: [], reached: stretch.until };
        continue;
      }
      let told: Told[] = [];
      for (const entry of row.entries()) {
        way.pass(row, entry, told);
        if (told.length < CHUNK) continue;
        yield { epoch, told, reached: way.reached };
        told = [];
        await nextTurn();
      }
      yield { epoch, told, reached: way.reached };
    }
  }
}

function wantsOf({ principal, filter }: Reader): Wants {
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
