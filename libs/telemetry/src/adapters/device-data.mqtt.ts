import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { Clock } from '#kernel';
import {
  Batcher,
  Config,
  INBOUND,
  Inbox,
  messageId,
  MqttTransport,
  parseJsonPayload,
  type Delivery,
  type InboxItem,
} from '#platform';
import { Ingest, type IncomingMessage } from '../application/ingest.js';

/** Batches whose transactions run at once: while one waits for the disk, the next is decoded and sent. */
const BATCHES_AT_ONCE = 2;

type Item = InboxItem & IncomingMessage;

/** Takes measurements in: the first station of a message's way. */
@Controller()
export class DeviceDataMqtt {
  private readonly batcher: Batcher<Item>;
  /** Settles when the newest batch has been told of: batches are told of in the order they were formed. */
  private lastTold: Promise<void> = Promise.resolve();
  /** What is being worked on, by packet id. After a reconnect the broker delivers it again. */
  private readonly inHand = new Map<number, Item>();

  constructor(
    private readonly ingest: Ingest,
    private readonly inbox: Inbox,
    private readonly clock: Clock,
    config: Config,
    transport: MqttTransport,
  ) {
    const { batchSize, batchAge } = config.ingest;
    this.batcher = new Batcher({ size: batchSize, age: batchAge, concurrency: BATCHES_AT_ONCE }, (batch) => {
      const told = this.inbox.process(batch, (part) => this.ingest.store(part), this.lastTold);
      this.lastTold = told;
      return told.then(() => this.letGo(batch));
    });
    transport.onDrain(() => this.batcher.drain());
  }

  /** Messages taken in and not yet done with. */
  get pending(): number {
    return this.batcher.pending;
  }

  @EventPattern<string>(INBOUND.data)
  receive(@Payload() deliveries: readonly Delivery[]): void {
    const now = this.clock.now();
    this.batcher.add(deliveries.map((delivery) => this.takeInHand(delivery, now)));
  }

  private takeInHand(delivery: Delivery, now: Date): Item {
    const { topic, deviceId, payload, packetId, duplicate, retained } = delivery;
    // Delivered again while the first delivery still waits: it keeps its date, so that it is stored once.
    const before = duplicate ? this.inHand.get(packetId) : undefined;
    const isSame = before !== undefined && before.topic === topic && payload.equals(before.payload);
    const item: Item = {
      delivery,
      topic,
      deviceId,
      payload,
      packetId: packetId === 0 ? null : packetId,
      duplicate,
      retained,
      receivedAt: isSame ? before.receivedAt : now,
      parse: () => parseJsonPayload(payload),
      id: (firstReceived) => messageId(topic, payload, firstReceived),
    };
    if (packetId !== 0) this.inHand.set(packetId, item);
    return item;
  }

  private letGo(batch: readonly Item[]): void {
    for (const item of batch) {
      if (item.packetId !== null && this.inHand.get(item.packetId) === item)
        this.inHand.delete(item.packetId);
    }
  }
}
