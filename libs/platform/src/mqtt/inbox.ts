import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable, Logger } from '@nestjs/common';
import {
  Clock,
  EventBus,
  MessageRejected,
  messageRejected,
  NOBODYS,
  Quarantine,
  UnitOfWork,
  type DomainEvent,
  type Ownership,
  type RejectedMessage,
} from '#kernel';
import { errorCode, isDataRefused } from '../database/database-errors.js';
import type { Delivery } from './delivery.js';
import { messageId } from './message-id.js';
import { Turns } from './turns.js';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;

/** What a module makes of a delivery before it is stored; the inbox only needs the delivery. */
export interface InboxItem {
  readonly delivery: Delivery;
}

/**
 * Stores items in one transaction of its own.
 * @returns the events to tell of once that is committed.
 */
export type StoreItems<Item extends InboxItem> = (items: readonly Item[]) => Promise<readonly DomainEvent[]>;

/**
 * Sees messages through, from delivery to acknowledgement: each is stored or quarantined, then told of,
 * and only then acknowledged. While the database is away it waits; a message the database refuses is found
 * by halving its batch, and quarantined alone.
 */
@Injectable()
export class Inbox {
  private readonly logger = new Logger('Inbox');
  private readonly stopping = new AbortController();

  constructor(
    private readonly unitOfWork: UnitOfWork,
    private readonly quarantine: Quarantine,
    private readonly bus: EventBus,
    private readonly clock: Clock,
  ) {}

  /**
   * Processes one batch. It never rejects: after {@link stop} it returns with the batch unacknowledged,
   * so that the broker delivers it again.
   * @param turns the order in which batches are told of.
   * @param onStored hears when nothing is left to do in the database.
   */
  async process<Item extends InboxItem>(
    items: readonly Item[],
    store: StoreItems<Item>,
    turns = new Turns(),
    onStored: () => void = () => undefined,
  ): Promise<void> {
    const turn = turns.take();
    const events = await this.storeOrQuarantine(items, store);
    onStored();
    await turn.come;
    // The next is told of as soon as this one is on its way: a broker's answer may take longer than a commit.
    const told = events && this.persist(() => this.bus.publish(events).then(() => true));
    turn.pass();
    if (!(await told)) return;
    for (const { delivery } of items) delivery.ack();
  }

  /** Gives up waiting for a database or an event receiver that is away. */
  stop(): void {
    this.stopping.abort();
  }

  /**
   * Quarantines one delivery, in a transaction of its own.
   * @param sender the device its topic names, where that is one at all, and whose it is.
   * @returns the event to tell of it.
   */
  async setAside(
    delivery: Delivery,
    sender: Ownership & { readonly deviceId: string | null },
    rejection: MessageRejected,
    receivedAt: Date,
  ): Promise<DomainEvent> {
    const message: RejectedMessage = {
      messageId: messageId(delivery.topic, delivery.payload, null),
      topic: delivery.topic,
      payload: delivery.payload,
      reason: rejection.reason,
      detail: rejection.message,
      deviceId: sender.deviceId,
      retained: delivery.retained,
      receivedAt,
    };
    await this.unitOfWork.run((transaction) => this.quarantine.add(transaction, [message]));
    return messageRejected(message, sender);
  }

  private async storeOrQuarantine<Item extends InboxItem>(
    items: readonly Item[],
    store: StoreItems<Item>,
  ): Promise<readonly DomainEvent[] | null> {
    return this.persist(async () => {
      try {
        return await store(items);
      } catch (error) {
        if (!isDataRefused(error)) throw error;
        if (items.length > 1) {
          const middle = items.length >> 1;
          const first = await this.storeOrQuarantine(items.slice(0, middle), store);
          const second = await this.storeOrQuarantine(items.slice(middle), store);
          return first && second && [...first, ...second];
        }
        const code = errorCode(error) ?? 'unknown';
        this.logger.warn(`The database refused a message (${code}); it goes to quarantine`);
        const rejection = new MessageRejected(
          'invalid_payload',
          `The database refused it (SQLSTATE ${code}).`,
        );
        const nobody = { deviceId: null, ...NOBODYS };
        return Promise.all(
          items.map(({ delivery }) => this.setAside(delivery, nobody, rejection, this.clock.now())),
        );
      }
    });
  }

  /** Repeats work until it succeeds, ever less often; null once stopped. */
  private async persist<T>(work: () => Promise<T>): Promise<T | null> {
    let delay = FIRST_RETRY_MS;
    let lastProblem = '';
    for (;;) {
      if (this.stopping.signal.aborted) return null;
      try {
        return await work();
      } catch (error) {
        const problem = errorCode(error) ?? (error instanceof Error ? error.name : 'unknown error');
        if (problem !== lastProblem)
          this.logger.warn(`Messages wait: ${problem}; trying again until it works`);
        lastProblem = problem;
      }
      await sleep(delay, undefined, { signal: this.stopping.signal }).catch(() => undefined);
      delay = Math.min(delay * 2, LAST_RETRY_MS);
    }
  }
}
