import type { Transaction } from '#kernel';

/** When a message that carries no date of its own was first received. */
export interface Receipt {
  readonly packetId: number;
  /** Identifies topic and payload. */
  readonly digest: string;
  readonly receivedAt: Date;
}

/** A receipt of a message that is being noted. */
export interface NewReceipt extends Receipt {
  /** The broker may have delivered it before. */
  readonly duplicate: boolean;
  /** Another replica may have been given the message as well; asked for when the receipt is noted, for it can change. */
  readonly mayBeElsewhere: boolean;
}

/**
 * How much later than a first delivery another replica may have received the same message. Further ahead, a receipt is of
 * a clock since corrected, and of another message.
 */
export const HANDOVER_MS = 10 * 60_000;
/**
 * How much earlier another replica may have received it: what the broker had sent to the one before is read there later
 * than the repeat by its successor, where the way is long or the process busy.
 */
export const LATE_READ_MS = 10_000;

/** Another replica, which had the session before or has it by now, has noted the same message meanwhile. */
export class ReceivedElsewhere extends Error {
  override readonly name = 'ReceivedElsewhere';
}

/**
 * Remembers, by MQTT packet id, when undated messages came. A message the broker delivers again after a crash
 * gets its first date back, and so is stored once.
 */
export abstract class ReceiptLedger {
  /** The newest receipts of these packet ids, by packet id. */
  abstract find(packetIds: readonly number[]): Promise<ReadonlyMap<number, Receipt>>;

  /**
   * Notes receipts; an older one of the same packet id is replaced.
   * @throws ReceivedElsewhere when one of them is there already. Waits for a transaction that is noting it.
   */
  abstract record(transaction: Transaction, receipts: readonly NewReceipt[]): Promise<void>;
}
