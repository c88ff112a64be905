import type { DomainEvent, Transaction } from '#kernel';
import type { DeviceIdentity } from '#devices';
import type { StreamPosition } from '../domain/stream-position.js';

/** A message that was stored, and what its events can be made of again. */
export interface MessageEntry {
  /** Which message of this run of the service it is. */
  readonly place: number;
  readonly topic: string;
  readonly payload: Uint8Array;
  /** As it was registered when the message was stored. */
  readonly device: DeviceIdentity;
  readonly receivedAt: Date;
  /** False: its receipt dates it. */
  readonly dated: boolean;
  /** How many events it told of. */
  readonly events: number;
}

/** A message of which nothing but an event is left to tell. */
export interface EventEntry {
  readonly place: number;
  readonly event: DomainEvent;
}

export type LogEntry = MessageEntry | EventEntry;

/** A message that comes back from the log. */
export interface LoggedMessage extends MessageEntry {
  /** @throws MessageRejected when the payload is no JSON object. */
  parse(): Readonly<Record<string, unknown>>;
  /** Its name, the same at each delivery. */
  id(): string;
}

/** An event that no message of the log tells of. */
export interface NotedEvent {
  /** The message after which it was told of. */
  readonly place: number;
  /** Which one of its kind it is. */
  readonly other: number;
  readonly event: DomainEvent;
}

/** What was written at once. */
export interface LogRow {
  readonly epoch: number;
  /** When, by the database's clock, in milliseconds. */
  readonly at: number;
  /** The last message it holds; or else the one after which its event was told of. */
  readonly place: number;
  /** 0: it holds messages. */
  readonly other: number;
  entries(): readonly (LoggedMessage | EventEntry)[];
}

/** A part of what one run of the service has told. */
export interface Stretch {
  readonly after: StreamPosition;
  /** Null: to the end of a run that is over. */
  readonly until: StreamPosition | null;
  /** Nothing was written before, by the database's clock, in milliseconds. */
  readonly begunAt: number;
  /** Of the row that `after` lies in, nothing is left. */
  readonly isWhole?: boolean;
}

/** Where a message stands in the log. */
export interface Stand {
  readonly epoch: number;
  readonly place: number;
  /** Which message of this run repeats it, where it stood there before. */
  readonly repeats?: number;
}

/** Which messages of a run a batch holds, whether or not the log held them before. */
export interface Range {
  readonly first: number;
  readonly last: number;
}

/** What the stream tells again to those who missed it, kept for a while. */
export abstract class StreamLog {
  /** Resolves when this run has its number: once the database is there. */
  abstract readonly opened: Promise<void>;

  /** This run's number. It changes when other replicas had to take it for dead. */
  abstract readonly epoch: number;

  /**
   * Writes down a batch that is about to be stored. Again with the same messages, it does nothing.
   * @param epoch the run they are numbered in.
   * @throws RunEnded when that is over: they are to be decoded, and numbered, anew.
   */
  abstract append(
    transaction: Transaction,
    epoch: number,
    range: Range,
    entries: readonly LogEntry[],
  ): Promise<void>;

  /**
   * Which messages of a batch the log holds already. Ask after they are stored, in the same transaction: who comes second
   * has waited for the first by then.
   * @param redelivered those that may have been delivered before; they are looked for in all runs.
   * @param others those that another replica may have been given as well, since then.
   */
  abstract repeated(
    transaction: Transaction,
    redelivered: readonly LogEntry[],
    others: { readonly entries: readonly LogEntry[]; readonly since: Date },
  ): Promise<ReadonlyMap<LogEntry, Stand>>;

  /** Writes down events that are told of. Resolves when they are written, however long that takes; rejects when the service stops before. */
  abstract note(events: readonly NotedEvent[]): Promise<void>;

  /** Resolves when all events noted so far are written. */
  abstract settled(): Promise<void>;

  /**
   * What there is between two positions: of all runs that have told something in between.
   * @throws DomainError invalid/since_unknown, invalid/since_too_old
   */
  abstract stretches(after: StreamPosition, until: StreamPosition): Promise<readonly Stretch[]>;

  /**
   * Some of a stretch behind `after`, in the order of telling; nothing when there is no more. `after` may lie in the first
   * of its rows, `until` in the last.
   * @param from the row that was read last on the way there; null: none was.
   * @throws DomainError invalid/since_too_old
   */
  abstract read(stretch: Stretch, after: StreamPosition, from: LogRow | null): Promise<readonly LogRow[]>;
}
