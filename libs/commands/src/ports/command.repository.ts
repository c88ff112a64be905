import type { Command, Step } from '../domain/command.js';

/** A caller's own name for an order, so that asking again does not order again. */
export interface Idempotency {
  readonly key: string;
  /** Digest of what was ordered. */
  readonly digest: string;
}

export type NewCommand = Pick<
  Command,
  'commandId' | 'deviceId' | 'command' | 'parameters' | 'createdBy' | 'createdAt' | 'expiresAt'
> & { readonly idempotency: Idempotency | null };

/** What is to be changed together. */
export type Selection =
  | { readonly commandIds: readonly string[] }
  /** Open commands whose time is over at that moment; not all of them when they are many. */
  | { readonly overAt: Date }
  /** Queued for devices that are decommissioned, or have another patient since, and not in anybody's hands. */
  | 'undeliverable';

/** The command ledger. All methods reject with a database error while the database is away. */
export abstract class CommandRepository {
  /**
   * Enters a command, unless the same caller has entered one for this device under the same idempotency key.
   * @returns the new one, or the earlier one with the digest it was entered with.
   */
  abstract insert(
    command: NewCommand,
  ): Promise<{ readonly command: Command; readonly earlier: string | null }>;

  abstract find(deviceId: string, commandId: string): Promise<Command | null>;

  /** A page of a device's commands, newest first, starting behind `beforeId`; those since a moment, where there is one. */
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
  abstract change(selection: Selection, change: (command: Command) => Step | null): Promise<readonly Step[]>;

  /**
   * Takes up, for each of the devices that is online, the oldest of its queued commands, as many as it may still have
   * in flight. What was ordered before the device had its patient is not meant for this one. A device whose queue somebody else is at is left out, as is one whose oldest command somebody else has
   * taken up. Nothing stays locked: a claim that is neither {@link release}d nor followed by a change of status lapses.
   * @param claim a name for all that is taken up now.
   * @returns the commands in their order.
   */
  abstract claim(claim: string, deviceIds: readonly string[], now: Date): Promise<readonly Command[]>;

  /**
   * Stores what was decided on commands of a claim as they were taken up, unless something has become of them since.
   * @returns the ids of those that were stored.
   */
  abstract settle(claim: string, steps: readonly Step[]): Promise<readonly string[]>;

  /** Says of claims that somebody is still at them. */
  abstract renew(claims: readonly string[]): Promise<void>;

  /** Puts back what of a claim is still queued. */
  abstract release(claim: string): Promise<void>;

  /** Online devices with something queued. */
  abstract devicesToServe(now: Date): Promise<readonly string[]>;
}

/** How long a claim holds without being renewed. */
export const CLAIM_LEASE_MS = 10_000;
