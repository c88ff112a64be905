import type { Clock, DomainEvent } from '#kernel';
import { Batcher } from './batcher.js';
import type { Delivery } from './delivery.js';
import type { Inbox, InboxItem } from './inbox.js';
import type { MqttTransport } from './mqtt-transport.js';

/** A delivery and when it came. */
export interface Received extends InboxItem {
  readonly receivedAt: Date;
}

const BATCH = { size: 200, age: 5, concurrency: 1 };

/** A way in whose messages change what is there, and so are taken in strictly in their order, a batch at a time. */
export class SerialIntake {
  private readonly batcher: Batcher<Received>;

  /** @param store what to do with a batch; see {@link Inbox.process}. */
  constructor(
    inbox: Inbox,
    transport: MqttTransport,
    private readonly clock: Clock,
    store: (items: readonly Received[]) => Promise<readonly DomainEvent[]>,
  ) {
    this.batcher = new Batcher(BATCH, (items) => inbox.process(items, store));
    transport.onDrain(() => this.batcher.drain());
  }

  take(deliveries: readonly Delivery[]): void {
    const receivedAt = this.clock.now();
    this.batcher.add(deliveries.map((delivery) => ({ delivery, receivedAt })));
  }
}
