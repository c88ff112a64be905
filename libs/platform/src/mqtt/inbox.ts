import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable, Logger } from '@nestjs/common';
import {
  EventBus,
  type EventSubscriber,
  type MessageRejected,
  messageRejected,
  NOBODYS,
  Quarantine,
  UnitOfWork,
  type DomainEvent,
  type Ownership,
  type RejectedMessage,
} from '#kernel';
import { errorCode } from '../database/database-errors.js';
import type { Delivery } from './delivery.js';
import { messageId } from './message-id.js';
import { isDefect, refusalOf } from './refusal.js';
import { Turns } from './turns.js';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;

/** What a module makes of a delivery before it is stored; this much of it the inbox needs. */
export interface InboxItem {
  readonly delivery: Delivery;
  readonly receivedAt: Date;
  /** The device its topic names, where that can be one at all. */
  readonly namedDevice: string | null;
  /** The date of receipt that tells it from messages of the same bytes; null where those are the same message. */
  readonly distinctBy: Date | null;
}

/**
 * Stores items in one transaction of its own.
 * @returns the events to tell of once that is committed.
 */
export type StoreItems<Item extends InboxItem> = (items: readonly Item[]) => Promise<readonly DomainEvent[]>;

/**
 * Sees messages through, from delivery to acknowledgement: each is stored or quarantined, then told of,
 * and only then acknowledged. While the database is away it waits; a message that can't be stored is found
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
  ) {}

  /**
   * Processes one batch. It never rejects: after {@link stop} it returns with the batch unacknowledged,
   * so that the broker delivers it again.
   * @param turns the order in which batches are told of.
   * @param onStored hears when nothing is left to do in the database.
   * @param onTold hears when the events are in safe hands.
   */
  async process<Item extends InboxItem>(
    items: readonly Item[],
    store: StoreItems<Item>,
    turns = new Turns(),
    onStored: () => void = () => undefined,
    onTold: () => void = () => undefined,
  ): Promise<void> {
    const turn = turns.take();
    const events = await this.storeOrQuarantine(items, store);
    onStored();
    await turn.come;
    // The next is told of as soon as this one is on its way: a broker's answer may take longer than a commit.
    const taken = new Set<EventSubscriber>();
    const told = events && this.persist(() => this.bus.publish(events, taken).then(() => true), reasonOf);
    turn.pass();
    if (!(await told)) return;
    onTold();
    for (const { delivery } of items) delivery.ack();
  }

  /** Gives up waiting for a database or an event receiver that is away. */
  stop(): void {
    this.stopping.abort();
  }

  /**
   * Quarantines one delivery, in a transaction of its own.
   * @param sender the device its topic names, where that is one at all, and whose it is.
   * @param distinctBy the date that tells it from messages of the same bytes.
   * @returns the event to tell of it.
   */
  async setAside(
    delivery: Delivery,
    sender: Ownership & { readonly deviceId: string | null },
    rejection: MessageRejected,
    receivedAt: Date,
    distinctBy: Date | null = null,
  ): Promise<DomainEvent> {
    const message: RejectedMessage = {
      messageId: messageId(delivery.topic, delivery.payload, distinctBy),
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
    let failedBefore = false;
    return this.persist(async () => {
      try {
        return await store(items);
      } catch (error) {
        const refusal = refusalOf(error);
        if (!refusal) throw error;
        if (items.length > 1) {
          const middle = items.length >> 1;
          const first = await this.storeOrQuarantine(items.slice(0, middle), store);
          const second = await this.storeOrQuarantine(items.slice(middle), store);
          return first && second && [...first, ...second];
        }
        // A driver that loses its connection may fail like this too: good messages must not go to quarantine for that.
        if (isDefect(error) && !failedBefore) {
          failedBefore = true;
          throw error;
        }
        const problem = isDefect(error)
          ? 'A message could not be processed'
          : 'The database refused a message';
        this.logger.warn(`${problem} (${nameOf(error)}); it goes to quarantine`);
        return Promise.all(
          items.map(({ delivery, namedDevice, distinctBy, receivedAt }) => {
            const sender = { deviceId: namedDevice, ...NOBODYS };
            return this.setAside(delivery, sender, refusal, distinctBy ?? receivedAt, distinctBy);
          }),
        );
      }
    });
  }

  /** Repeats work until it succeeds, ever less often; null once stopped. */
  private async persist<T>(work: () => Promise<T>, describe = nameOf): Promise<T | null> {
    let delay = FIRST_RETRY_MS;
    let lastProblem = '';
    for (;;) {
      if (this.stopping.signal.aborted) return null;
      try {
        return await work();
      } catch (error) {
        const problem = describe(error);
        if (problem !== lastProblem)
          this.logger.warn(`Messages wait: ${problem}; trying again until it works`);
        lastProblem = problem;
      }
      await sleep(delay, undefined, { signal: this.stopping.signal }).catch(() => undefined);
      delay = Math.min(delay * 2, LAST_RETRY_MS);
    }
  }
}

/** What failed, in a word that holds no values. */
function nameOf(error: unknown): string {
  return errorCode(error) ?? (error instanceof Error ? error.name : 'unknown error');
}

/** Why events were not taken. A plain error's message is our own; those of the language may quote what they met. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return [...new Set(error.errors.map(reasonOf))].join(', ');
  return (
    errorCode(error) ?? (error instanceof Error && error.name === 'Error' ? error.message : nameOf(error))
  );
}
