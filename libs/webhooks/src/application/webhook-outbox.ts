import { Injectable, Logger, type BeforeApplicationShutdown } from '@nestjs/common';
import { BackgroundWork, EventBus, type DomainEvent } from '#kernel';
import { DeliveryRepository, type NewDelivery } from '../ports/delivery.repository.js';
import { WebhookDirectory } from './webhook-directory.js';
import { WebhookDispatcher } from './webhook-dispatcher.js';

/**
 * Puts events into the queues of the webhooks that want them. Whoever tells of events waits for no receiver, only until they
 * are committed; and not at all for events that no webhook wants. While the database is away, everybody waits: what comes
 * later must not be queued before.
 */
@Injectable()
export class WebhookOutbox implements BeforeApplicationShutdown {
  private readonly logger = new Logger('Webhooks');
  private readonly work = new BackgroundWork((problem) => this.logger.warn(`Events wait: ${problem}`));
  private storing: Promise<void> = Promise.resolve();

  constructor(
    private readonly directory: WebhookDirectory,
    private readonly deliveries: DeliveryRepository,
    private readonly dispatcher: WebhookDispatcher,
    bus: EventBus,
  ) {
    bus.subscribe({ name: 'webhooks', handle: (events) => this.take(events) });
  }

  /** What is not committed yet is not going to be: it is for those who tell of it to know. */
  beforeApplicationShutdown(): void {
    this.work.stop();
  }

  private take(events: readonly DomainEvent[]): void | Promise<void> {
    if (!this.directory.isKnown) {
      return this.inTurn(async () => {
        await this.directory.refresh();
        await this.store(this.directory.match(events));
      });
    }
    const wanted = this.directory.match(events);
    if (wanted.length > 0) return this.inTurn(() => this.store(wanted));
  }

  /** The queue's order is the order in which events are told: two batches under way must not overtake each other. */
  private inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.storing.then(() => this.work.insist(work)).then(() => this.work.wentWell());
    this.storing = done.catch(() => undefined);
    return done;
  }

  private async store(wanted: readonly NewDelivery[]): Promise<void> {
    if (wanted.length === 0) return;
    await this.deliveries.add(wanted);
    this.dispatcher.wake(new Set(wanted.flatMap(({ webhookIds }) => webhookIds)));
  }
}
