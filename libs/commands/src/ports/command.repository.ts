import type { Command, Entered, Step } from '../domain/command.js';

/** A caller's own name for an order, so that asking again does not order again. */
export interface Idempotency {
  readonly key: string;
  /** Digest of what was ordered. */
  readonly digest: string;
}

export type NewCommand = Pick<
  Command,
  | 'commandId'
  | 'deviceId'
  | 'command'
  | 'parameters'
  | 'createdBy'
  | 'createdAt'
  | 'expiresAt'
  | 'patientSince'
> & { readonly idempotency: Idempotency | null };

/** What is to be changed together. */
export type Selection =
  | { readonly commandIds: readonly string[] }
  /** Open commands whose time is over at that moment; not all of them when they are many. */
  | { readonly overAt: Date }
  /** Queued for devices that are decommissioned, or have another patient since, and not in anybody's hands. */
  | 'undeliverable';

/** A status a command has entered that is still to be told of. */
export interface News extends Entered {
  readonly id: number;
}

/** A command whose change has been stored, and what is to be told of it. */
export interface Change {
  readonly command: Command;
  /** In the order of the statuses. */
  readonly news: readonly News[];
  /** News of the same command from before that were still to be told of then, by whomever. */
  readonly earlier: readonly number[];
}

/**
 * The command ledger. What is stored there has to be told of, and is kept as news until that is done: where the process
 * dies in between, another tells it. All methods reject with a database error
 * while the database is away.
 */
export abstract class CommandRepository {
  /**
   * Enters a command, unless the same caller has entered one for this device under the same idempotency key.
   * @param claim takes it up at once, as {@link claim} does, where the device is online, nothing else is queued for it and
   * it has room; null: it stays in the queue.
   * @returns the new one, taken up when it is `claimedUntil` a moment; or the earlier one, with the digest it was entered
   * with and without news.
   */
  abstract insert(
    command: NewCommand,
    claim: string | null,
  ): Promise<{ readonly change: Change; readonly earlier: string | null }>;

  abstract find(deviceId: string, commandId: string): Promise<Command | null>;

  /**
   * A page of a device's commands, newest first, starting behind `beforeId`.
   * @param of `since`: those for the patient whose the device is since then; null: all.
   */
  abstract list(
    of: { readonly deviceId: string; readonly since: Date | null },
    beforeId: number | null,
    limit: number,
  ): Promise<readonly Command[]>;

  /**
   * Loads commands under row locks, lets `change` decide on each, and stores what it returns, all in one transaction.
   * @param change returns null to leave a command as it is.
   * @returns what was changed. @throws what `change` throws; nothing is changed then.
   */
  abstract change(
    selection: Selection,
    change: (command: Command) => Step | null,
  ): Promise<readonly Change[]>;

  /**
   * Takes up, for each of the devices that is online, the oldest of its queued commands, as many as it may still have
   * in flight. What was ordered for another patient is left out. A device whose queue somebody else is at is left out, as is one whose oldest command somebody else has
   * taken up. Nothing stays locked: a claim that is neither {@link release}d nor followed by a change of status lapses.
   * @param claim a name for all that is taken up now.
   * @returns the commands in their order.
   */
  abstract claim(claim: string, deviceIds: readonly string[], now: Date): Promise<readonly Command[]>;

  /**
   * Stores what was decided on commands of a claim as they were taken up, unless something has become of them since.
   * @returns what was stored.
   */
  abstract settle(claim: string, steps: readonly Step[]): Promise<readonly Change[]>;

  /** Those of the commands that are still queued. */
  abstract queuedAmong(commandIds: readonly string[]): Promise<readonly string[]>;

  /**
   * Says of claims that somebody is still at them. What has lapsed stays so: others may have ended it, or another of its queue.
   * @returns the ids of those commands whose claim goes on.
   */
  abstract renew(claims: readonly string[]): Promise<readonly string[]>;

  /** Puts back those commands of a claim that are still queued as if they had not been taken up: nobody can have got them. */
  abstract putBack(claim: string, commandIds: readonly string[]): Promise<void>;

  /** Puts back what of a claim is still queued. */
  abstract release(claim: string): Promise<void>;

  /**
   * News that nobody has told of for so long that nobody will; they are the caller's to tell for as long again. What
   * follows news of the same command that are others' to tell is left out.
   * @param inHand news the caller is about to tell of, in their order.
   * @returns them in the order in which they happened; a command may be there several times.
   */
  abstract claimUntold(limit: number, inHand: readonly number[]): Promise<readonly Change[]>;

  /**
   * News the caller holds back, where nothing stands before them any more that is others' to tell; what stands there and
   * is late becomes the caller's to tell as well.
   * @param inHand news the caller is about to tell of, in their order.
   * @returns what is to be told now, as {@link claimUntold} does, and what is to be held on. What is neither has been told.
   */
  abstract claimHeld(
    held: readonly number[],
    inHand: readonly number[],
  ): Promise<{ readonly changes: readonly Change[]; readonly waiting: readonly number[] }>;

  /** Those of the news that nobody has noted as told. */
  abstract untoldAmong(news: readonly number[]): Promise<readonly number[]>;

  /** Forgets news that have been told of. */
  abstract markTold(news: readonly number[]): Promise<void>;

  /** Online devices with something queued. */
  abstract devicesToServe(now: Date): Promise<readonly string[]>;
}

/** How long a claim holds without being renewed. */
export const CLAIM_LEASE_MS = 10_000;
