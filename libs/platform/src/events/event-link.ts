import { setTimeout as sleep } from 'node:timers/promises';
import type { EventClient } from './event-client.js';
import type { EventMessage } from './event-message.js';

const CONNECT_WITHIN_MS = 10_000;
/** A system that has fallen silent does not hold events for longer: they go to the outbox. */
const ANSWER_WITHIN_MS = 10_000;

/**
 * One connection to the event system, from its beginning to its end. What is not answered when it ends is handed over
 * again, on another.
 */
export class EventLink {
  /** Settles when it has ended, with the reason. */
  readonly ended: Promise<Error>;
  private end: (reason: Error) => void = () => undefined;

  private constructor(private readonly client: EventClient) {
    this.ended = new Promise((resolve) => {
      this.end = resolve;
    });
  }

  /** @throws when it does not stand within {@link CONNECT_WITHIN_MS}. */
  static async open(client: EventClient): Promise<EventLink> {
    const link = new EventLink(client);
    try {
      // Nest's clients differ in what they do about a connection that ends before it stands.
      await inTime(client.connect(), CONNECT_WITHIN_MS, 'it does not answer');
      client.status.subscribe((status) => {
        if (status !== 'connected' && !status.endsWith('blocked')) link.close('the connection has ended');
      });
      return link;
    } catch (error) {
      link.close('it was not connected');
      throw error;
    }
  }

  /**
   * Hands events over, in their order.
   * @throws when the system does not take all of them. The link has then ended: which of them it has, nobody knows.
   */
  async handOver(messages: readonly EventMessage[]): Promise<void> {
    const ended = this.ended.then((reason) => {
      throw reason;
    });
    try {
      const handedOver = this.client.handOver(messages);
      await Promise.race([inTime(handedOver, ANSWER_WITHIN_MS, 'it does not answer'), ended]);
    } catch (error) {
      this.close(error instanceof Error ? error.message : 'it took no events');
      throw error;
    }
  }

  /** Bytes of the largest event that can be handed over. */
  get maxBytes(): number {
    return this.client.maxBytes;
  }

  /** Ends it, and what is under way with it. */
  close(reason: string): void {
    this.end(new Error(reason));
    this.client.close().catch(() => undefined);
  }
}

/** @throws Error with that message when it takes longer. */
async function inTime<T>(work: Promise<T>, ms: number, message: string): Promise<T> {
  const done = new AbortController();
  const overdue = sleep(ms, undefined, { signal: done.signal }).then(() => {
    throw new Error(message);
  });
  try {
    return await Promise.race([work, overdue]);
  } finally {
    done.abort();
    overdue.catch(() => undefined);
    work.catch(() => undefined);
  }
}
