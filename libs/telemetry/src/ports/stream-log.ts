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
  /** The last message it holds; or else the one after which its event was told of. */
  readonly place: number;
  /** 0: it holds messages. */
  readonly other: number;
  entries(): readonly (LoggedMessage | EventEntry)[];
}

/** What the stream tells again to those who missed it, kept for a while. */
export abstract class StreamLog {
  /** This run's number: known once the database is there. */
  abstract readonly opened: Promise<number>;

  /** Writes down a batch that is about to be stored. Again with the same messages, it does nothing. */
  abstract append(transaction: Transaction, entries: readonly LogEntry[]): Promise<void>;

  /** Writes down events that are told of. Resolves when they are written, however long that takes; rejects when the service stops before. */
  abstract note(events: readonly NotedEvent[]): Promise<void>;

  /** Resolves when all events noted so far are written. */
  abstract settled(): Promise<void>;

  /**
   * Whether everything behind a position is still there.
   * @throws DomainError invalid/since_unknown, invalid/since_too_old
   */
  abstract check(after: StreamPosition, until: StreamPosition): Promise<void>;

  /**
   * Some of what was written behind `after`, in the order of telling; nothing when there is no more up to `until`.
   * @param from the row that was read last on the way there; null: none was.
   * @throws DomainError invalid/since_unknown, invalid/since_too_old
   */
  abstract read(
    after: StreamPosition,
    until: StreamPosition,
    from: LogRow | null,
  ): Promise<readonly LogRow[]>;
}
