import type { Clock, DomainEvent } from '#kernel';
import { Batcher } from './batcher.js';
import { MAX_BATCH_BYTES, type Delivery } from './delivery.js';
import type { Inbox, InboxItem } from './inbox.js';
import type { MqttTransport } from './mqtt-transport.js';

/** A delivery, when it came and from whom. */
export type Received = InboxItem;

const BATCH = { size: 200, age: 5, concurrency: 1, weight: MAX_BATCH_BYTES };

/** A way in whose messages change what is there, and so are taken in strictly in their order, a batch at a time. */
export class SerialIntake {
  private readonly batcher: Batcher<Received>;
  private lastDate = 0;

  /**
   * @param isDeviceId whether a topic's word for the device can be one.
   * @param store what to do with a batch; see {@link Inbox.process}.
   * @param onTold hears when the events of what has been stored are in safe hands.
   */
  constructor(
    inbox: Inbox,
    transport: MqttTransport,
    private readonly clock: Clock,
    private readonly isDeviceId: (deviceId: string) => boolean,
    store: (items: readonly Received[]) => Promise<readonly DomainEvent[]>,
    onTold?: () => void,
  ) {
    this.batcher = new Batcher(
      BATCH,
      (items) => inbox.process(items, store, undefined, undefined, onTold),
      ({ delivery }) => delivery.payload.length,
    );
    transport.onDrain(() => this.batcher.drain());
  }

  take(deliveries: readonly Delivery[]): void {
    const receivedAt = this.clock.now();
    this.batcher.add(
      deliveries.map((delivery) => ({
        delivery,
        receivedAt,
        namedDevice: this.isDeviceId(delivery.deviceId) ? delivery.deviceId : null,
        // A retained message comes again at every connect; it is one message all the same.
        distinctBy: delivery.retained ? null : this.nextDate(receivedAt),
      })),
    );
  }

  /** About now, and never the same twice: equal messages may arrive together. */
  private nextDate(now: Date): Date {
    this.lastDate = Math.max(this.lastDate + 1, now.getTime());
    return new Date(this.lastDate);
  }
}
