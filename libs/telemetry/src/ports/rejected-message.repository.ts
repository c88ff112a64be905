import type { MessageRejected, RejectedMessage, RejectionReason, Transaction } from '#kernel';

/** Which rejected messages. Times are ISO 8601 and mean the receipt; `from` is included, `to` is not. */
export interface RejectionFilter {
  /** Whose device the topic names, as the registry is now; the default tenant's, where it names none. */
  readonly tenant: string;
  readonly deviceId?: string;
  readonly reason?: RejectionReason;
  readonly from?: string;
  readonly to?: string;
}

/** A message in quarantine, as people look at it. */
export interface QuarantinedMessage extends Omit<RejectedMessage, 'messageId' | 'retained'> {
  readonly id: number;
}

/** Where a message stands in the order of the list: ISO 8601 to the microsecond, and its id. */
export interface QuarantinePosition {
  readonly receivedAt: string;
  readonly id: number;
}

/** A page of rejected messages. */
export interface QuarantinePage {
  readonly messages: readonly QuarantinedMessage[];
  /** Where the next page starts behind; null at the end. */
  readonly next: QuarantinePosition | null;
}

/** A message that is tried once more. */
export interface HeldMessage {
  /** The device id its topic names, unchecked; null when today's configuration takes no data from that topic. */
  readonly deviceId: string | null;
  readonly retained: boolean;
  /** When it was received first. */
  readonly receivedAt: Date;
  /** The payload's. */
  readonly bytes: number;
  /** @throws MessageRejected when the payload is no JSON object. */
  readonly parse: () => Readonly<Record<string, unknown>>;
  /** A name that is the same at each try; `firstReceived` where the message carries no date. */
  readonly id: (firstReceived: Date | null) => string;
}

/** What has become of a message that was tried once more: stored and out of quarantine, or still in it. */
export type Release<T> = { readonly stored: T } | { readonly rejection: MessageRejected };

/** The messages in quarantine, for people to look at and to try again. */
export abstract class RejectedMessageRepository {
  /**
   * A page, newest first, starting behind `after`. It ends early, though never empty, where the payloads would
   * otherwise be too much to answer at once.
   */
  abstract page(
    filter: RejectionFilter,
    after: QuarantinePosition | null,
    limit: number,
  ): Promise<QuarantinePage>;

  /** @returns null when there is no message of this id that concerns the tenant. */
  abstract find(id: number, tenant: string): Promise<HeldMessage | null>;

  /**
   * Tries a message again, in one transaction in which nobody else can: `store` stores it, and it leaves the
   * quarantine. When `store` throws MessageRejected, or the database refuses the values, nothing is stored, and
   * the message stays with the new reason. Any other error leaves everything as it was and is thrown on.
   * @param store uses no other connection: those of the ingest are few, and it holds one.
   * @returns null when there is no message of this id any more.
   */
  abstract release<T>(
    id: number,
    store: (transaction: Transaction) => Promise<T>,
  ): Promise<Release<T> | null>;
}
