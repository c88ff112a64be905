/** A PUBLISH as it stands on the wire (MQTT 3.1.1 and 5, section 3.3). */
export interface Publish {
  readonly topic: string;
  /** A view of the bytes that arrived; valid for as long as somebody holds it. */
  readonly payload: Buffer;
  /** 0: delivered at QoS 0. */
  readonly packetId: number;
  /** The packet that answers it, as 4 bytes: PUBACK, or PUBREC at QoS 2. */
  readonly reply: number;
  readonly duplicate: boolean;
  readonly retained: boolean;
  /** MQTT 5: its properties, behind their length; null: it has none. */
  readonly properties: Buffer | null;
}

/** What a broker sent is no MQTT; the connection can't be read any further. */
export class MalformedFrameError extends Error {
  constructor(reason: string) {
    super(`The broker sent a malformed packet: ${reason}`);
    this.name = 'MalformedFrameError';
  }
}

const PUBLISH = 3;
/** Answers of 4 bytes, without the packet id. In MQTT 5 the reason "success" may be left out (section 3.4.2.1). */
const PUBACK = 0x4002_0000;
const PUBREC = 0x5002_0000;
const PUBCOMP = 0x7002_0000;
const PUBREL_HEADER = 0x62;
const NO_PROPERTIES = Buffer.alloc(0);
const MAX_LENGTH_BYTES = 4;

/**
 * Cuts the bytes of a connection into packets. PUBLISH packets are read here, once, without the generality of a packet
 * library; every other packet is passed on as it came.
 */
export class PublishFrames {
  private rest: Buffer[] = [];
  private restLength = 0;
  /** Bytes the packet that has begun needs altogether; 0 when that is not known yet. */
  private needed = 0;

  /**
   * @param version 4 for MQTT 3.1.1, 5 for MQTT 5.
   * @param onPublish receives each PUBLISH.
   * @param onOther receives the bytes of each other packet, whole.
   */
  constructor(
    private readonly version: 4 | 5,
    private readonly onPublish: (publish: Publish) => void,
    private readonly onOther: (packet: Buffer) => void,
  ) {}

  /** Takes the next bytes. @throws MalformedFrameError */
  read(chunk: Buffer): void {
    let bytes = chunk;
    if (this.restLength > 0) {
      this.rest.push(chunk);
      this.restLength += chunk.length;
      if (this.restLength < this.needed) return;
      bytes = Buffer.concat(this.rest, this.restLength);
      this.rest = [];
      this.restLength = 0;
    }
    this.needed = 0;
    let at = 0;
    while (at < bytes.length) {
      const next = this.readPacket(bytes, at);
      if (next === at) break;
      at = next;
    }
    if (at < bytes.length) {
      // A packet that is still incomplete must not keep the whole chunk before it in memory.
      this.rest = [at === 0 ? bytes : Buffer.from(bytes.subarray(at))];
      this.restLength = bytes.length - at;
    }
  }

  /** @returns where the next packet begins; `at` itself when this one is incomplete. */
  private readPacket(bytes: Buffer, at: number): number {
    let length = 0;
    let body = at + 1;
    for (let shift = 0; ; shift += 7) {
      if (body - at > MAX_LENGTH_BYTES) throw new MalformedFrameError('its length has more than 4 bytes');
      const digit = bytes[body];
      if (digit === undefined) return at;
      body += 1;
      length |= (digit & 0x7f) << shift;
      if (digit < 0x80) break;
    }
    const end = body + length;
    if (end > bytes.length) {
      this.needed = end - at;
      return at;
    }
    const header = bytes[at] ?? 0;
    const qos = (header >> 1) & 3;
    if (header >> 4 === PUBLISH) this.onPublish(this.readPublish(bytes, header, qos, body, end));
    else this.onOther(bytes.subarray(at, end));
    return end;
  }

  private readPublish(bytes: Buffer, header: number, qos: number, body: number, end: number): Publish {
    let at = body + 2;
    if (at > end) throw new MalformedFrameError('a PUBLISH without a topic');
    const topicEnd = at + bytes.readUInt16BE(body);
    if (topicEnd > end) throw new MalformedFrameError('a topic longer than its PUBLISH');
    const topic = bytes.toString('utf8', at, topicEnd);
    at = topicEnd;
    let packetId = 0;
    if (qos > 2) throw new MalformedFrameError('a PUBLISH of QoS 3');
    if (qos > 0) {
      if (at + 2 > end) throw new MalformedFrameError('a PUBLISH without its packet id');
      packetId = bytes.readUInt16BE(at);
      at += 2;
      // [MQTT-2.3.1-1], [MQTT-2.2.1-3]
      if (packetId === 0) throw new MalformedFrameError('the packet id 0');
    }
    let properties: Buffer | null = null;
    if (this.version === 5) {
      const start = startOfProperties(bytes, at, end);
      at = start.at + start.length;
      if (at > end) throw new MalformedFrameError('properties longer than their PUBLISH');
      if (start.length > 0) properties = bytes.subarray(start.at, at);
    }
    return {
      topic,
      payload: bytes.subarray(at, end),
      packetId,
      reply: (qos === 2 ? PUBREC : PUBACK) + packetId,
      duplicate: (header & 8) !== 0,
      retained: (header & 1) !== 0,
      properties,
    };
  }
}

/**
 * Where the properties begin (MQTT 5, section 3.3.2.3), and how long they are. They are not read here: none of them changes
 * what a measurement is; a topic alias, the one that would matter, is only used by brokers that were offered some.
 */
function startOfProperties(bytes: Buffer, from: number, end: number): { at: number; length: number } {
  let length = 0;
  let at = from;
  for (let shift = 0; ; shift += 7) {
    const digit = at < end ? bytes[at] : undefined;
    if (digit === undefined || at - from >= MAX_LENGTH_BYTES)
      throw new MalformedFrameError('properties without their length');
    at += 1;
    length |= (digit & 0x7f) << shift;
    if (digit < 0x80) break;
  }
  return { at, length };
}

/** Answers to PUBLISHes ({@link Publish.reply}) as they go out. */
export function repliesOf(replies: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(replies.length * 4);
  let at = 0;
  for (const reply of replies) at = bytes.writeUInt32BE(reply, at);
  return bytes;
}

/**
 * The answer to a PUBREL; null where a packet is none. What it releases was answered by PUBREC, and so is safe already:
 * delivered again, it is absorbed like any other message.
 */
export function replyToPubrel(packet: Buffer): Buffer | null {
  if (packet[0] !== PUBREL_HEADER || packet.length < 4) return null;
  return repliesOf([PUBCOMP + packet.readUInt16BE(2)]);
}

/**
 * A PUBLISH of QoS 1 to be written (section 3.3). Counting the bytes of a text takes as long as writing it: they are
 * counted once.
 */
export class OutgoingPublish {
  private readonly topicLength: number;
  private readonly payloadLength: number;
  private readonly remaining: number;

  constructor(
    private readonly topic: string,
    private readonly payload: string,
    private readonly packetId: number,
    private readonly version: 4 | 5,
    /** As they stand behind their length; not for MQTT 3.1.1, which has none. */
    private readonly properties: Buffer = NO_PROPERTIES,
  ) {
    this.topicLength = Buffer.byteLength(topic);
    this.payloadLength = Buffer.byteLength(payload);
    const propertyBytes = version === 5 ? lengthBytes(properties.length) + properties.length : 0;
    this.remaining = 2 + this.topicLength + 2 + propertyBytes + this.payloadLength;
  }

  /** Bytes it takes. */
  get length(): number {
    return 1 + lengthBytes(this.remaining) + this.remaining;
  }

  /** @returns where the next may begin. */
  writeTo(bytes: Buffer, from: number): number {
    bytes[from] = 0x32;
    let at = writeLength(bytes, this.remaining, from + 1);
    at = bytes.writeUInt16BE(this.topicLength, at);
    at += bytes.write(this.topic, at, this.topicLength);
    at = bytes.writeUInt16BE(this.packetId, at);
    if (this.version === 5) {
      at = writeLength(bytes, this.properties.length, at);
      at += this.properties.copy(bytes, at);
    }
    return at + bytes.write(this.payload, at, this.payloadLength);
  }
}

/** Writes a variable byte integer (MQTT 5, section 1.5.5). @returns where what follows may begin. */
function writeLength(bytes: Buffer, length: number, from: number): number {
  let at = from;
  for (let rest = length; ;) {
    const digit = rest & 0x7f;
    rest >>>= 7;
    bytes[at] = rest > 0 ? digit | 0x80 : digit;
    at += 1;
    if (rest === 0) return at;
  }
}

/** PUBLISHes as they stand on the wire, one after the other. */
export function publishFrames(publishes: readonly OutgoingPublish[]): Buffer {
  let size = 0;
  for (const { length } of publishes) size += length;
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (const publish of publishes) at = publish.writeTo(bytes, at);
  return bytes;
}

/** Bytes that a remaining length takes (section 2.2.3 of MQTT 3.1.1). */
function lengthBytes(length: number): number {
  return length < 0x80 ? 1 : length < 0x4000 ? 2 : length < 0x20_0000 ? 3 : 4;
}

/** What a PUBACK says; null where a packet is none. In MQTT 5 without a reason it is a success (section 3.4.2.1). */
export function readPuback(packet: Buffer): { readonly packetId: number; readonly reason: number } | null {
  if (packet[0] !== 0x40 || packet.length < 4) return null;
  return { packetId: packet.readUInt16BE(2), reason: packet[4] ?? 0 };
}
