import { setImmediate as nextTurn } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { MessageRejected, type DomainEvent } from '#kernel';
import { mayHear, passes } from '../domain/stream-filter.js';
import { StreamPosition } from '../domain/stream-position.js';
import { StreamLog, type EventEntry, type LoggedMessage, type LogRow } from '../ports/stream-log.js';
import type { StreamMessage, Watcher } from './audience.js';
import { DataReceived } from './data-received.js';
import { decodeBounded } from './decode-bounded.js';
import { streamMessage } from './live-feed.js';

/** Messages made at once, before others have their turn. */
const CHUNK = 250;

type Reader = Pick<Watcher, 'principal' | 'filter'>;

/** Tells events again, from the log: to whom and as they were told live. */
@Injectable()
export class StreamReplay {
  constructor(private readonly log: StreamLog) {}

  /**
   * Whether everything from a position on can be told again.
   * @throws DomainError invalid/since_unknown, invalid/since_too_old
   */
  async check(after: StreamPosition, until: StreamPosition): Promise<void> {
    await this.log.check(after, until);
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
    // What is told may still be on its way into the log.
    await this.log.settled();
    const way = new Way(after, reader);
    let row: LogRow | null = null;
    for (;;) {
      const rows: readonly LogRow[] = await this.log.read(way.reached, until, row);
      if (rows.length === 0) return;
      for (row of rows) {
        let chunk: StreamMessage[] = [];
        for (const entry of row.entries()) {
          way.pass(row, entry, chunk);
          if (chunk.length < CHUNK) continue;
          yield chunk;
          chunk = [];
          await nextTurn();
        }
        if (chunk.length > 0) yield chunk;
      }
    }
  }
}

/** How far a replay has come. */
class Way {
  constructor(
    public reached: StreamPosition,
    private readonly reader: Reader,
  ) {}

  /** Goes past an entry. @param into takes what the reader is to see of it. */
  pass({ epoch, other }: LogRow, entry: LoggedMessage | EventEntry, into: StreamMessage[]): void {
    if (epoch !== this.reached.epoch) this.reached = new StreamPosition(epoch, 0, 0, 0);
    const { place } = entry;
    if ('event' in entry) {
      if (other === 0 && !this.reached.isBefore(place, 0)) return;
      this.reached = other === 0 ? this.reached.afterMessage(place, 0) : this.reached.afterOther(other);
      this.tell(entry.event, into);
      return;
    }
    if (place < this.reached.place) return;
    for (const event of this.mayConcern(entry) ? eventsOf(entry) : []) {
      const index = event.logged?.index ?? 0;
      if (!this.reached.isBefore(place, index)) continue;
      this.reached = this.reached.afterMessage(place, index);
      this.tell(event, into);
    }
    this.reached = this.reached.afterMessage(place, entry.events - 1);
  }

  private tell(event: DomainEvent, into: StreamMessage[]): void {
    const { principal, filter } = this.reader;
    if (mayHear(principal, event) && passes(filter, event)) into.push(streamMessage(event, this.reached));
  }

  /** Most messages are another's, or of another device: they need not be decoded. */
  private mayConcern({ device }: LoggedMessage): boolean {
    const { principal, filter } = this.reader;
    if (!principal.maySee(device)) return false;
    if (filter.events && !filter.events.has('device.data.received')) return false;
    if (filter.deviceIds && !filter.deviceIds.has(device.deviceId)) return false;
    return !filter.patientIds || filter.patientIds.has(device.patientId);
  }
}

/** What a message told of when it came in; nothing where a later version would not take it in. */
function eventsOf(message: LoggedMessage): readonly DataReceived[] {
  const { place, payload, device, receivedAt } = message;
  let id: string | undefined;
  const name = (): string => (id ??= message.id());
  try {
    return decodeBounded(message.parse(), payload.length, device, receivedAt).map(
      (measurement, index) => new DataReceived(name, index, device, measurement, receivedAt, place),
    );
  } catch (error) {
    if (error instanceof MessageRejected) return [];
    throw error;
  }
}
