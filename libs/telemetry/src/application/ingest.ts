import { Injectable } from '@nestjs/common';
import {
  MessageRejected,
  messageRejected,
  NOBODYS,
  Quarantine,
  UnitOfWork,
  type DomainEvent,
  type RejectedMessage,
  type Transaction,
} from '#kernel';
import { DeviceRegistry, isDeviceId, requireActive, type DeviceIdentity } from '#devices';
import { ReadingRepository, type Reading, type Waveform } from '#readings';
import {
  HANDOVER_MS,
  LATE_READ_MS,
  ReceiptLedger,
  ReceivedElsewhere,
  type NewReceipt,
  type Receipt,
} from '../ports/receipt-ledger.js';
import { StreamLog, type LogEntry, type Range } from '../ports/stream-log.js';
import { DataReceived } from './data-received.js';
import { decodeBounded } from './decode-bounded.js';
import { isDated } from './decode.js';

/** A data message as it came in. */
export interface IncomingMessage {
  /** Which message of this run of the service it is: they are told of in this order. */
  readonly place: number;
  readonly topic: string;
  /** The device id its topic names, unchecked. */
  readonly deviceId: string;
  readonly payload: Uint8Array;
  /** Null when it can't be delivered again (QoS 0). */
  readonly packetId: number | null;
  /** The broker may have delivered it before. */
  readonly duplicate: boolean;
  /** It may have waited at the broker while others were given what came after it. */
  readonly mayHaveWaited: boolean;
  /** Another replica may have been given it as well by now. */
  readonly mayBeElsewhere: boolean;
  /** The broker had kept it, for how long nobody knows. */
  readonly retained: boolean;
  readonly receivedAt: Date;
  /** Dates it where it carries no date itself: about {@link receivedAt}, the same at each call. */
  readonly receiptDate: Date;
  /** @throws MessageRejected when the payload is no JSON object. */
  parse(): Readonly<Record<string, unknown>>;
  /** A name that is the same at each delivery; `firstReceived` where the message carries no date. */
  id(firstReceived: Date | null): string;
}

/** One batch, decoded and ready to be stored. */
interface Decoded {
  readonly readings: Reading[];
  readonly waveforms: Waveform[];
  readonly rejected: RejectedMessage[];
  readonly receipts: NewReceipt[];
  readonly events: DomainEvent[];
  readonly log: LogEntry[];
  /** Where the entries of the log stand; of each message, its events know it. */
  readonly stands: object[];
  readonly range: Range;
  /** The run of the service they are numbered in. */
  readonly epoch: number;
}

/** Takes data messages in: decodes them by the catalogue and stores each, or quarantines it, in one transaction a batch. */
@Injectable()
export class Ingest {
  private counts = { stored: 0, rejected: 0, readings: 0 };

  constructor(
    private readonly registry: DeviceRegistry,
    private readonly readings: ReadingRepository,
    private readonly quarantine: Quarantine,
    private readonly receipts: ReceiptLedger,
    private readonly log: StreamLog,
    private readonly unitOfWork: UnitOfWork,
  ) {}

  /** Messages stored, messages rejected and readings stored since the start; repeats of a message count as messages. */
  get totals(): Readonly<{ stored: number; rejected: number; readings: number }> {
    return this.counts;
  }

  /**
   * Stores a batch.
   * @returns the events to tell of, in the order of the messages.
   * @throws what the database says; nothing of the batch is stored then.
   */
  async store(messages: readonly IncomingMessage[]): Promise<readonly DomainEvent[]> {
    try {
      return await this.storeBatch(
        messages,
        messages.filter(({ duplicate }) => duplicate),
      );
    } catch (error) {
      if (!(error instanceof ReceivedElsewhere)) throw error;
      return this.storeBatch(messages, messages);
    }
  }

  /** @param known those of them of which there may be a receipt. */
  private async storeBatch(
    messages: readonly IncomingMessage[],
    known: readonly IncomingMessage[],
  ): Promise<readonly DomainEvent[]> {
    const devices = await this.registry.identify(
      messages.map((message) => message.deviceId).filter(isDeviceId),
    );
    const earlier = await this.earlierReceipts(known);
    await this.log.opened;
    const decoded: Decoded = {
      readings: [],
      waveforms: [],
      rejected: [],
      receipts: [],
      events: [],
      log: [],
      stands: [],
      epoch: this.log.epoch,
      range: { first: messages[0]?.place ?? 0, last: messages.at(-1)?.place ?? 0 },
    };
    for (const message of messages) {
      this.decode(message, devices.get(message.deviceId), earlier, decoded);
    }
    let stored = decoded.readings.length;
    if (!(await this.storedAtOnce(messages, decoded))) {
      await this.unitOfWork.run(async (transaction) => {
        stored = await this.readings.insertReadings(transaction, decoded.readings);
        await this.readings.insertWaveforms(transaction, decoded.waveforms);
        await this.quarantine.add(transaction, decoded.rejected);
        await this.receipts.record(transaction, decoded.receipts);
        const isNew = stored === decoded.readings.length;
        await this.log.append(
          transaction,
          decoded.epoch,
          decoded.range,
          await this.withoutRepeats(transaction, messages, decoded, isNew),
        );
      });
    }
    this.counts.rejected += decoded.rejected.length;
    this.counts.stored += messages.length - decoded.rejected.length;
    this.counts.readings += stored;
    return decoded.events;
  }

  /**
   * Most batches are new readings and nothing else: these are stored the fastest way. Messages that the broker says it
   * may have delivered before are not tried that way: they probably are there already.
   */
  private async storedAtOnce(messages: readonly IncomingMessage[], decoded: Decoded): Promise<boolean> {
    const { readings, waveforms, rejected, receipts } = decoded;
    if (waveforms.length > 0 || rejected.length > 0 || receipts.length > 0) return false;
    if (messages.some(({ duplicate }) => duplicate)) return false;
    return this.readings.storeNew(readings, (transaction) =>
      this.log.append(transaction, decoded.epoch, decoded.range, decoded.log),
    );
  }

  /**
   * What the log does not hold yet. The events of the rest stand where they stood before: they are told to other systems
   * again, but not to those who watch.
   * @param isNew none of the readings was there already.
   */
  private async withoutRepeats(
    transaction: Transaction,
    messages: readonly IncomingMessage[],
    { log, stands, waveforms, rejected }: Decoded,
    isNew: boolean,
  ): Promise<readonly LogEntry[]> {
    if (isNew && waveforms.length === 0 && rejected.length === 0) return log;
    const duplicates = new Set(messages.filter(({ duplicate }) => duplicate).map(({ place }) => place));
    const redelivered = log.filter(({ place }) => duplicates.has(place));
    const first = messages.filter(({ duplicate }) => !duplicate);
    const [since = new Date()] = first.map(({ receivedAt }) => receivedAt);
    const entries = log.filter(({ place }) => !duplicates.has(place));
    const repeated = await this.log.repeated(transaction, redelivered, { entries, since });
    log.forEach((entry, index) => {
      const found = repeated.get(entry);
      if (found) Object.assign(stands[index] as object, found, { repeats: entry.place });
    });
    return log.filter((entry) => !repeated.has(entry));
  }

  private async earlierReceipts(messages: readonly IncomingMessage[]): Promise<ReadonlyMap<number, Receipt>> {
    const packetIds = messages.flatMap(({ packetId }) => (packetId === null ? [] : [packetId]));
    return packetIds.length > 0 ? this.receipts.find(packetIds) : new Map<number, Receipt>();
  }

  private decode(
    message: IncomingMessage,
    device: DeviceIdentity | undefined,
    earlier: ReadonlyMap<number, Receipt>,
    into: Decoded,
  ): void {
    let payload: Readonly<Record<string, unknown>> | undefined;
    let receivedAt = message.receivedAt;
    try {
      payload = message.parse();
      if (!isDated(payload)) receivedAt = firstReceipt(message, earlier, into);
      requireDatable(payload, message.retained);
      const sender = requireActive(device);
      const undatedSince = isDated(payload) ? null : receivedAt;
      const measurements = decodeBounded(payload, message.payload.length, sender, receivedAt);
      const { place, topic, payload: bytes } = message;
      const stand = { epoch: into.epoch, place };
      const mayHaveWaited = message.mayHaveWaited || message.duplicate;
      measurements.forEach((measurement, index) => {
        for (const reading of measurement.readings) into.readings.push(reading);
        if (measurement.waveform) into.waveforms.push(measurement.waveform);
        into.events.push(
          new DataReceived(
            () => message.id(undatedSince),
            index,
            sender,
            measurement,
            receivedAt,
            stand,
            message.retained,
            mayHaveWaited ? { said: undatedSince === null ? new Date(measurement.timestamp) : null } : null,
          ),
        );
      });
      into.stands.push(stand);
      into.log.push({
        place,
        topic,
        payload: bytes,
        device: sender,
        receivedAt,
        dated: undatedSince === null,
        events: measurements.length,
      });
    } catch (error) {
      if (!(error instanceof MessageRejected)) throw error;
      // Two equal malformed messages are two messages; the same one delivered again is one.
      if (!payload || isDated(payload)) receivedAt = firstReceipt(message, earlier, into);
      this.reject(message, device, error, receivedAt, into);
    }
  }

  private reject(
    message: IncomingMessage,
    device: DeviceIdentity | undefined,
    error: MessageRejected,
    receivedAt: Date,
    into: Decoded,
  ): void {
    const deviceId = isDeviceId(message.deviceId) ? message.deviceId : null;
    const { place, topic, payload, retained } = message;
    const { reason, message: detail } = error;
    // A retained message comes again at every connect; it is one message all the same.
    const messageId = message.id(retained ? null : receivedAt);
    const rejected = { messageId, topic, payload, reason, detail, deviceId, retained, receivedAt };
    into.rejected.push(rejected);
    const logged = { epoch: into.epoch, place, index: 0 };
    const event = { ...messageRejected(rejected, device ?? NOBODYS), logged };
    into.events.push(event);
    into.stands.push(logged);
    into.log.push({ place, event });
  }
}

/** When the message was first received, by what is known of earlier deliveries; notes it if this is the first. */
function firstReceipt(message: IncomingMessage, earlier: ReadonlyMap<number, Receipt>, into: Decoded): Date {
  const { packetId, receivedAt, receiptDate, duplicate, mayBeElsewhere } = message;
  if (packetId === null || message.retained) return receiptDate;
  const digest = message.id(null);
  const first = earlier.get(packetId);
  // Received about when this first delivery was: given to another replica as well.
  if (first?.digest === digest && (duplicate || isHandedOver(first.receivedAt, receivedAt, mayBeElsewhere)))
    return first.receivedAt;
  into.receipts.push({
    packetId,
    digest,
    receivedAt: receiptDate,
    duplicate,
    get mayBeElsewhere() {
      return message.mayBeElsewhere;
    },
  });
  return receiptDate;
}

function isHandedOver(first: Date, receivedAt: Date, mayBeElsewhere: boolean): boolean {
  const later = first.getTime() - receivedAt.getTime();
  return later >= (mayBeElsewhere ? -LATE_READ_MS : 0) && later <= HANDOVER_MS;
}

/** @throws MessageRejected invalid_payload for a retained message without a date: it may have been measured at any time. */
export function requireDatable(payload: Readonly<Record<string, unknown>>, retained: boolean): void {
  if (retained && !isDated(payload)) {
    throw new MessageRejected(
      'invalid_payload',
      'It was retained and has no timestamp: when it was measured is unknown.',
    );
  }
}
