import type { StreamPosition } from '../domain/stream-position.js';

/** Another run of the service, as far as it matters to who tells its events. */
export interface Peer {
  readonly epoch: number;
  /** How far it says it has told its events. Null: it has not said so yet. */
  readonly told: StreamPosition | null;
  /** It lives no more, and nothing is added to its log. */
  readonly ended: boolean;
}

/** The runs of the service that share a database, and what they say to each other. */
export abstract class StreamPeers {
  /** Resolves when this run is known to the others. */
  abstract readonly joined: Promise<void>;

  /** This run's number; it changes when the others had to take it for dead. */
  abstract readonly epoch: number;

  /**
   * The others: those that live, those asked for, and all that came after the newest of them.
   * What is seen of one is not older than what it had seen of another when it said it.
   * @param bury finds out first which of them have died. What had been on its way into their log is there then.
   */
  abstract look(asked: readonly number[], bury: boolean): Promise<readonly Peer[]>;

  /** How far the log of another goes. */
  abstract endOf(epoch: number): Promise<StreamPosition>;

  /** Says how far this run has told its events; null: it does not say so any more. */
  abstract announce(told: StreamPosition | null): Promise<void>;

  /** @param listener hears that there may be something to look at. */
  abstract onNews(listener: () => void): void;
}
