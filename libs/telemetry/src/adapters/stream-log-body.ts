import { MicroDate, type DomainEvent } from '#kernel';
import { messageId, parseJsonPayload } from '#platform';
import type { DeviceIdentity, DeviceType } from '#devices';
import type { EventEntry, LogEntry, LoggedMessage, MessageEntry } from '../ports/stream-log.js';

/** What devices have in common: the topic around the device id, tenant, type, and since when it is the patient's. */
type Kind = readonly [
  before: string,
  after: string,
  tenant: string,
  type: string,
  patientSince: string | null,
];
type Sender = readonly [deviceId: string, patientId: number, kind: number];
type PlainEvent = Omit<DomainEvent, 'logged' | 'late' | 'waited' | 'dataJson'>;

/** What stands in the head beside the table of entries. */
interface Names {
  readonly kinds: readonly Kind[];
  readonly senders: readonly Sender[];
  /** Dates of receipt. */
  readonly receipts: readonly string[];
  readonly events: readonly PlainEvent[];
}

/** The first place, the number of entries, and the bytes of the names. */
const PREFIX_BYTES = 16;
/** Numbers an entry has in the table: place behind the first, sender or event, receipt, bytes of the payload, and kind. */
const COLUMNS = 5;
const ENTRY_BYTES = COLUMNS * 4;
/** What the kind of an entry is made of: whether it is an event, whether the message is dated, and how many events it told of. */
const IS_EVENT = 1;
const IS_DATED = 2;
const EVENTS_SHIFT = 2;

/** Devices are remembered between batches as one object each, and so is what stands for them. */
const remembered = new WeakMap<DeviceIdentity, SenderText>();

interface SenderText {
  readonly topic: string;
  /** As JSON, but for the kind and what closes it. */
  readonly begun: string;
  readonly kind: string;
}

/**
 * A batch for the log: a table of numbers, names as JSON, and the payloads as they came. Each message costs some
 * numbers and a copy of its bytes.
 * @param first the place it begins at.
 * @param entries in the order of their places.
 */
export function packBatch(first: number, entries: readonly LogEntry[]): Buffer {
  const table = new Int32Array(entries.length * COLUMNS);
  const kinds = new Map<string, number>();
  const senders: string[] = [];
  const receipts: string[] = [];
  const events: PlainEvent[] = [];
  const known = new Map<string, number>();
  let lastReceipt: Date | undefined;
  let payloadBytes = 0;
  let at = 0;
  for (const entry of entries) {
    table[at] = entry.place - first;
    if ('event' in entry) {
      table[at + 1] = events.push(plain(entry.event)) - 1;
      table[at + 4] = IS_EVENT;
    } else {
      const { topic, payload, device, receivedAt } = entry;
      let sender = known.get(topic);
      if (sender === undefined) {
        const { begun, kind } = senderText(topic, device);
        let number = kinds.get(kind);
        if (number === undefined) kinds.set(kind, (number = kinds.size));
        sender = senders.push(`${begun}${number}]`) - 1;
        known.set(topic, sender);
      }
      // Messages that arrive together share their date.
      if (receivedAt !== lastReceipt) {
        receipts.push(receivedAt.toISOString());
        lastReceipt = receivedAt;
      }
      table[at + 1] = sender;
      table[at + 2] = receipts.length - 1;
      table[at + 3] = payload.length;
      table[at + 4] = (entry.events << EVENTS_SHIFT) | (entry.dated ? IS_DATED : 0);
      payloadBytes += payload.length;
    }
    at += COLUMNS;
  }
  const names =
    `{"kinds":[${[...kinds.keys()].join(',')}],"senders":[${senders.join(',')}],` +
    `"receipts":${JSON.stringify(receipts)},"events":${JSON.stringify(events)}}`;
  const nameBytes = Buffer.byteLength(names);
  const body = Buffer.allocUnsafe(PREFIX_BYTES + table.byteLength + nameBytes + payloadBytes);
  body.writeDoubleLE(first, 0);
  body.writeUInt32LE(entries.length, 8);
  body.writeUInt32LE(nameBytes, 12);
  // Both in the machine's own order, which is the same wherever this runs: x86 and ARM are little-endian.
  body.set(new Uint8Array(table.buffer), PREFIX_BYTES);
  let end = PREFIX_BYTES + table.byteLength;
  end += body.write(names, end);
  for (const entry of entries) {
    if ('event' in entry) continue;
    body.set(entry.payload, end);
    end += entry.payload.length;
  }
  return body;
}

/** {@link packBatch}, and back. */
export function unpackBatch(body: Buffer): readonly (LoggedMessage | EventEntry)[] {
  const first = body.readDoubleLE(0);
  const count = body.readUInt32LE(8);
  const namesAt = PREFIX_BYTES + count * ENTRY_BYTES;
  let at = namesAt + body.readUInt32LE(12);
  const names = JSON.parse(body.toString('utf8', namesAt, at)) as Names;
  const senders = names.senders.map(([deviceId, patientId, kind]) => {
    const [before, after, tenant, type, since] = names.kinds[kind] as Kind;
    const patientSince = since === null ? null : new Date(since);
    const device = {
      deviceId,
      tenant,
      patientId,
      patientSince,
      type: type as DeviceType,
      decommissionedAt: null,
    };
    return { device, topic: `${before}${deviceId}${after}` };
  });
  const receipts = names.receipts.map((iso) => MicroDate.of(iso));
  return Array.from({ length: count }, (_, index) => {
    const column = (number: number): number =>
      body.readInt32LE(PREFIX_BYTES + index * ENTRY_BYTES + number * 4);
    const place = first + column(0);
    const kind = column(4);
    if (kind & IS_EVENT) return { place, event: names.events[column(1)] as PlainEvent };
    const length = column(3);
    const payload = body.subarray(at, at + length);
    at += length;
    return new Unpacked({
      place,
      payload,
      ...(senders[column(1)] as (typeof senders)[number]),
      receivedAt: receipts[column(2)] as Date,
      dated: (kind & IS_DATED) !== 0,
      events: kind >> EVENTS_SHIFT,
    });
  });
}

/** One event for the log. */
export function packEvent(event: DomainEvent): Buffer {
  return Buffer.from(JSON.stringify(plain(event)), 'utf8');
}

/** {@link packEvent}, and back. */
export function unpackEvent(body: Buffer): DomainEvent {
  return JSON.parse(body.toString('utf8')) as PlainEvent;
}

function senderText(topic: string, device: DeviceIdentity): SenderText {
  const known = remembered.get(device);
  if (known?.topic === topic) return known;
  const { deviceId, tenant, patientId, patientSince, type } = device;
  const at = topic.indexOf(deviceId);
  const around = [topic.slice(0, at), topic.slice(at + deviceId.length)];
  const text = {
    topic,
    begun: `[${JSON.stringify(deviceId)},${patientId},`,
    kind: JSON.stringify([...around, tenant, type, patientSince?.toISOString() ?? null]),
  };
  remembered.set(device, text);
  return text;
}

/** Some events are objects that make their fields when they are asked. */
function plain({ id, type, deviceId, tenant, patientId, time, data }: DomainEvent): PlainEvent {
  return { id, type, deviceId, tenant, patientId, time, data };
}

class Unpacked implements LoggedMessage {
  readonly place: number;
  readonly topic: string;
  readonly payload: Buffer;
  readonly device: MessageEntry['device'];
  readonly receivedAt: Date;
  readonly dated: boolean;
  readonly events: number;

  constructor(entry: MessageEntry & { readonly payload: Buffer }) {
    this.place = entry.place;
    this.topic = entry.topic;
    this.payload = entry.payload;
    this.device = entry.device;
    this.receivedAt = entry.receivedAt;
    this.dated = entry.dated;
    this.events = entry.events;
  }

  parse(): Readonly<Record<string, unknown>> {
    return parseJsonPayload(this.payload);
  }

  id(): string {
    return messageId(this.topic, this.payload, this.dated ? null : this.receivedAt);
  }
}

/** How much of a body {@link firstOf} reads. */
export const FIRST_BYTES = 8;

/** The place a batch begins at. */
export function firstOf(body: Buffer): number {
  return body.readDoubleLE(0);
}
