// Just enough of MQTT 3.1.1 to publish as fast as a broker takes it: a client library would take the processor time
// that the service under measurement needs.

/** MQTT 3.1.1, section 3.1: a clean session without keep-alive. */
export function connectPacket(clientId: string, username: string, password: string): Buffer {
  const USERNAME_PASSWORD_CLEAN = 0b1100_0010;
  const variableHeader = Buffer.from([0, 4, 0x4d, 0x51, 0x54, 0x54, 4, USERNAME_PASSWORD_CLEAN, 0, 0]);
  const body = Buffer.concat([variableHeader, ...[clientId, username, password].map(text)]);
  return Buffer.concat([Buffer.from([0x10]), remainingLength(body.length), body]);
}

/** MQTT 3.1.1, section 3.3: QoS 1. */
export function publishPacket(topic: string, packetId: number, payload: string): Buffer {
  const body = Buffer.concat([
    text(topic),
    Buffer.from([packetId >> 8, packetId & 0xff]),
    Buffer.from(payload, 'utf8'),
  ]);
  return Buffer.concat([Buffer.from([0x32]), remainingLength(body.length), body]);
}

/** Counts the acknowledgements in what a broker sends; everything it sends a publisher is 4 bytes long. */
export class AcknowledgementCounter {
  private rest: Buffer = Buffer.alloc(0);

  /** @returns how many PUBACKs the chunk completes, and whether it holds a CONNACK. */
  count(chunk: Buffer): { pubacks: number; connected: boolean } {
    const bytes = this.rest.length > 0 ? Buffer.concat([this.rest, chunk]) : chunk;
    let pubacks = 0;
    let connected = false;
    let at = 0;
    for (; at + 4 <= bytes.length; at += 4) {
      if (bytes[at] === 0x40) pubacks += 1;
      else if (bytes[at] === 0x20 && bytes[at + 3] === 0) connected = true;
      else throw new Error(`unexpected packet ${bytes.subarray(at, at + 4).toString('hex')}`);
    }
    this.rest = bytes.subarray(at);
    return { pubacks, connected };
  }
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
}

function remainingLength(length: number): Buffer {
  const digits: number[] = [];
  let rest = length;
  do {
    const digit = rest % 128;
    rest = Math.floor(rest / 128);
    digits.push(rest > 0 ? digit | 0x80 : digit);
  } while (rest > 0);
  return Buffer.from(digits);
}
