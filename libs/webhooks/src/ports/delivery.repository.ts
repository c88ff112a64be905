import type { DomainEvent } from '#kernel';
import type { Delivery, DeliveryState, Failure, FinishedState } from '../domain/delivery.js';

/** An event that webhooks want. */
export interface NewDelivery {
  readonly event: DomainEvent;
  readonly webhookIds: readonly string[];
}

/** A delivery that is this process' to send. */
export interface ClaimedDelivery {
  readonly id: number;
  readonly messageId: string;
  /** Deliveries of one lane go out one after the other: its device, or empty. */
  readonly lane: string;
  /** What is sent; null: it is large, and to be fetched when it is sent. */
  readonly body: string | null;
  readonly attempts: number;
  /** How long it had been queued when it was claimed. */
  readonly ageMs: number;
}

/** Finished deliveries of a webhook. */
export interface ReplaySelection {
  readonly states: readonly FinishedState[];
  /** Behind this delivery. */
  readonly afterId: number | null;
  /** Queued for the first time from then on, and before then. */
  readonly from: string | null;
  readonly to: string | null;
}

/** What a replay has queued again. */
export interface Replay {
  readonly queued: number;
  readonly remaining: number;
  /** The last of them; null: none. */
  readonly lastMessageId: string | null;
}

/** How many of each there may be, and for how long. */
export interface KeepingBounds {
  readonly maxPending: number;
  readonly maxKept: number;
  readonly maxAgeMs: number;
  readonly retentionMs: number;
}

/** The queue of each webhook, in their database. Failures of the database are thrown as they come. */
export abstract class DeliveryRepository {
  /** Adds deliveries in their order; what a webhook has had already (by the event's id) is left alone. */
  abstract add(deliveries: readonly NewDelivery[]): Promise<void>;
  /**
   * Takes what is due from the front of a webhook's lanes, in the order of each lane. Lanes of which anything is claimed are
   * left alone, also what has come in front of it, until the claim lapses or its deliveries are settled.
   */
  abstract claim(claim: string, webhookId: string, lanes: number): Promise<readonly ClaimedDelivery[]>;
  /** What a delivery sends. */
  abstract body(id: number): Promise<string>;
  /** Keeps claims of these deliveries of these webhooks from lapsing. @returns those that had not. */
  abstract renew(
    webhookIds: readonly string[],
    claims: readonly string[],
    ids: readonly number[],
  ): Promise<readonly number[]>;
  /** Gives back deliveries of a claim that were not sent. */
  abstract release(claim: string, ids: readonly number[]): Promise<void>;
  /** Records the end of a delivery. @returns whether the claim still held. */
  abstract finish(
    claim: string,
    id: number,
    state: FinishedState,
    status: number | null,
    failure: Failure | null,
  ): Promise<boolean>;
  /** Records a failed attempt, and gives back with it what is claimed behind it. */
  abstract postpone(
    claim: string,
    id: number,
    behind: readonly number[],
    delayMs: number,
    status: number | null,
    failure: Failure,
  ): Promise<void>;
  /** How many are pending, by webhook. */
  abstract backlogs(): Promise<ReadonlyMap<string, number>>;
  /** A webhook's, newest first, older than the one given. */
  abstract list(
    webhookId: string,
    states: readonly DeliveryState[],
    beforeId: number | null,
    limit: number,
  ): Promise<readonly Delivery[]>;
  /** Where a delivery stands in its webhook's; null: there is none, or none any more. */
  abstract idOf(webhookId: string, messageId: string): Promise<number | null>;
  /** Queues finished deliveries again, oldest first, as far as there is room for them; one replay of a webhook after the other. */
  abstract replay(webhookId: string, selection: ReplaySelection, maxPending: number): Promise<Replay>;
  /** Gives up the oldest that are pending and nobody has claimed, but for the newest so many. @returns how many. */
  abstract giveUpOldest(webhookId: string, keep: number): Promise<number>;
  /** Gives up what has waited for too long, and forgets what was finished long ago, or is too much. @returns how many it gave up. */
  abstract sweep(bounds: KeepingBounds): Promise<number>;
}
