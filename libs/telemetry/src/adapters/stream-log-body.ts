import { promisify } from 'node:util';
import { constants, deflateRaw, inflateRaw } from 'node:zlib';
import { MicroDate, type DomainEvent } from '#kernel';
import { messageId, parseJsonPayload } from '#platform';
import type { DeviceType } from '#devices';
import type { EventEntry, LogEntry, LoggedMessage, MessageEntry } from '../ports/stream-log.js';

const deflate = promisify(deflateRaw);
const inflate = promisify(inflateRaw);
/** The cheapest: a batch of 1,000 equal devices shrinks to a tenth even so. */
const COMPRESSION = { level: constants.Z_BEST_SPEED };

/** topic, device id, tenant, patient id and since when, type */
type Sender = readonly [string, string, string, number, string | null, string];
/** place, index of the sender, bytes of the payload, date of receipt (0: as before), dated, events; or place and event. */
type Head = readonly [number, number, number, string | 0, 0 | 1, number] | readonly [number, PlainEvent];
type PlainEvent = Omit<DomainEvent, 'logged' | 'late' | 'dataJson'>;

/** A batch for the log: a head of JSON that says of each message what its payload does not, and the payloads as they came. */
export async function packBatch(entries: readonly LogEntry[]): Promise<Buffer> {
  const senders: Sender[] = [];
  const known = new Map<string, number>();
  const heads: Head[] = [];
  const payloads: Uint8Array[] = [];
  let lastReceipt: Date | undefined;
  for (const entry of entries) {
    if ('event' in entry) {
      heads.push([entry.place, plain(entry.event)]);
      continue;
    }
    const { place, topic, payload, device, receivedAt, dated, events } = entry;
    let sender = known.get(topic);
    if (sender === undefined) {
      sender =
        senders.push([
          topic,
          device.deviceId,
          device.tenant,
          device.patientId,
          device.patientSince?.toISOString() ?? null,
          device.type,
        ]) - 1;
      known.set(topic, sender);
    }
    const receipt = receivedAt === lastReceipt ? 0 : receivedAt.toISOString();
    lastReceipt = receivedAt;
    heads.push([place, sender, payload.length, receipt, dated ? 1 : 0, events]);
    payloads.push(payload);
  }
  const head = Buffer.from(JSON.stringify({ senders, heads }), 'utf8');
  const size = Buffer.allocUnsafe(4);
  size.writeUInt32BE(head.length);
  return deflate(Buffer.concat([size, head, ...payloads]), COMPRESSION);
}

/** {@link packBatch}, and back. */
export async function unpackBatch(body: Buffer): Promise<readonly (LoggedMessage | EventEntry)[]> {
  const bytes = await inflate(body);
  const size = bytes.readUInt32BE(0);
  const { senders, heads } = JSON.parse(bytes.toString('utf8', 4, 4 + size)) as {
    readonly senders: readonly Sender[];
    readonly heads: readonly Head[];
  };
  let at = 4 + size;
  let receivedAt = new Date(0);
  return heads.map((head) => {
    if (head.length === 2) return { place: head[0], event: head[1] };
    const [place, sender, length, receipt, dated, events] = head;
    if (receipt !== 0) receivedAt = MicroDate.of(receipt);
    const payload = bytes.subarray(at, at + length);
    at += length;
    const [topic, deviceId, tenant, patientId, since, type] = senders[sender] as Sender;
    const patientSince = since === null ? null : new Date(since);
    const device = {
      deviceId,
      tenant,
      patientId,
      patientSince,
      type: type as DeviceType,
      decommissionedAt: null,
    };
    return new Unpacked({ place, topic, payload, device, receivedAt, dated: dated === 1, events });
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
