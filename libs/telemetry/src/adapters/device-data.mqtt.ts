import { createHash } from 'node:crypto';
import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { Clock } from '#kernel';
import {
  Batcher,
  Config,
  INBOUND,
  Inbox,
  MAX_BATCH_BYTES,
  messageId,
  MqttTransport,
  parseJsonPayload,
  Turns,
  type Delivery,
  type InboxItem,
} from '#platform';
import { isDeviceId } from '#devices';
import { isDated } from '../application/decode.js';
import { Ingest, type IncomingMessage } from '../application/ingest.js';
import { ReceiptDates, type MicroRange } from '../application/receipt-dates.js';

/** Batches whose transactions run at once: while one waits for the disk, the next is decoded and sent. */
const BATCHES_AT_ONCE = 2;

/** A delivery as the ingest sees it. */
class DataMessage implements InboxItem, IncomingMessage {
  readonly topic: string;
  readonly deviceId: string;
  readonly payload: Buffer;
  readonly packetId: number | null;
  readonly retained: boolean;
  private cameAgain = false;
  private date: Date | undefined;

  /** @param before the same message at an earlier delivery that is still in hand. */
  constructor(
    readonly place: number,
    readonly delivery: Delivery,
    readonly receivedAt: Date,
    private readonly dates: ReceiptDates,
    private readonly before?: DataMessage,
  ) {
    if (before) before.cameAgain = true;
    this.topic = delivery.topic;
    this.deviceId = delivery.deviceId;
    this.payload = delivery.payload;
    this.packetId = delivery.packetId === 0 ? null : delivery.packetId;
    this.retained = delivery.retained;
  }

  /** Also where it came again meanwhile: the repeat, which is in hand as well, may be stored first. */
  get duplicate(): boolean {
    return this.delivery.duplicate || this.cameAgain;
  }

  get receiptDate(): Date {
    return (this.date ??= this.before?.receiptDate ?? this.dates.next(this.deviceId, this.receivedAt));
  }

  get mayHaveWaited(): boolean {
    return this.delivery.mayHaveWaited;
  }

  get mayBeElsewhere(): boolean {
    return this.delivery.mayBeElsewhere;
  }

  get namedDevice(): string | null {
    return isDeviceId(this.deviceId) ? this.deviceId : null;
  }

  get distinctBy(): Date | null {
    // A retained message comes again at every connect; it is one message all the same.
    if (this.retained) return null;
    try {
      return isDated(this.parse()) ? null : this.receiptDate;
    } catch {
      return this.receiptDate;
    }
  }

  parse(): Readonly<Record<string, unknown>> {
    return parseJsonPayload(this.payload);
  }

  id(firstReceived: Date | null): string {
    return messageId(this.topic, this.payload, firstReceived);
  }
}

/** Replicas that share the messages date theirs in different parts of a millisecond, as their client ids have it. */
const PARTS = 8;

function microRange({ mqtt }: Config): MicroRange {
  const width = 1_000 / PARTS;
  if (mqtt.sharedGroup === undefined) return { from: 0, to: 1_000 };
  const part = (createHash('sha256').update(mqtt.clientId).digest()[0] ?? 0) % PARTS;
  return { from: part * width, to: (part + 1) * width };
}

/** Takes measurements in: the first station of a message's way. */
@Controller()
export class DeviceDataMqtt {
  private readonly batcher: Batcher<DataMessage>;
  private readonly dates: ReceiptDates;
  /** Batches are told of in the order they were formed. */
  private readonly turns = new Turns();
  /** Messages taken in hand since the start. */
  private taken = 0;
  /** What is being worked on, by packet id. After a reconnect the broker delivers it again. */
  private readonly inHand = new Map<number, DataMessage>();

  constructor(
    private readonly ingest: Ingest,
    private readonly inbox: Inbox,
    private readonly clock: Clock,
    config: Config,
    transport: MqttTransport,
  ) {
    this.dates = new ReceiptDates(microRange(config));
    const { batchSize, batchAge } = config.ingest;
    this.batcher = new Batcher(
      { size: batchSize, age: batchAge, concurrency: BATCHES_AT_ONCE, weight: MAX_BATCH_BYTES },
      (batch, next) => {
        const done = this.inbox.process(batch, (part) => this.ingest.store(part), this.turns, next);
        return done.then(() => this.letGo(batch));
      },
      ({ payload }) => payload.length,
    );
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

  private takeInHand(delivery: Delivery, now: Date): DataMessage {
    const { topic, payload, packetId, duplicate } = delivery;
    // Delivered again while the first delivery still waits: it keeps its date, so that it is stored once.
    const before = duplicate ? this.inHand.get(packetId) : undefined;
    this.taken += 1;
    const isSame = before !== undefined && before.topic === topic && payload.equals(before.payload);
    const message = isSame
      ? new DataMessage(this.taken, delivery, before.receivedAt, this.dates, before)
      : new DataMessage(this.taken, delivery, now, this.dates);
    if (packetId !== 0) this.inHand.set(packetId, message);
    return message;
  }

  private letGo(batch: readonly DataMessage[]): void {
    for (const item of batch) {
      if (item.packetId !== null && this.inHand.get(item.packetId) === item)
        this.inHand.delete(item.packetId);
    }
  }
}
