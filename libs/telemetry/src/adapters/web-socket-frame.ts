const FIN_AND_TEXT = 0x81;
const EXTENDED_16 = 126;
const EXTENDED_64 = 127;

/**
 * Text messages as they stand on the wire one after the other, unmasked as servers send them and uncompressed (RFC 6455,
 * section 5.2). Made once for all who get them.
 */
export function textFrames(messages: readonly string[]): Buffer {
  const lengths = messages.map((message) => Buffer.byteLength(message));
  const size = lengths.reduce((sum, length) => sum + headLength(length) + length, 0);
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  messages.forEach((message, index) => {
    const length = lengths[index] ?? 0;
    at = writeHead(bytes, at, length);
    at += bytes.write(message, at, length);
  });
  return bytes;
}

/** @returns where the payload begins. */
function writeHead(bytes: Buffer, at: number, length: number): number {
  const head = headLength(length);
  bytes[at] = FIN_AND_TEXT;
  if (head === 2) bytes[at + 1] = length;
  else if (head === 4) {
    bytes[at + 1] = EXTENDED_16;
    bytes.writeUInt16BE(length, at + 2);
  } else {
    bytes[at + 1] = EXTENDED_64;
    bytes.writeBigUInt64BE(BigInt(length), at + 2);
  }
  return at + head;
}

function headLength(length: number): number {
  return length < EXTENDED_16 ? 2 : length <= 0xffff ? 4 : 10;
}
