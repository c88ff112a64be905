const FIN_AND_TEXT = 0x81;
const EXTENDED_16 = 126;
const EXTENDED_64 = 127;

/**
 * Text messages as they stand on the wire one after the other, unmasked as servers send them and uncompressed (RFC 6455,
 * section 5.2). Made once for all who get them.
 */
export function textFrames(messages: readonly string[]): Buffer {
  let size = 0;
  for (const message of messages) {
    const length = Buffer.byteLength(message);
    size += headLength(length) + length;
  }
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (const message of messages) at = writeTextFrame(bytes, at, message);
  return bytes;
}

/** @returns where the next may begin. */
function writeTextFrame(bytes: Buffer, at: number, message: string): number {
  const length = Buffer.byteLength(message);
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
  return at + head + bytes.write(message, at + head);
}

function headLength(length: number): number {
  return length < EXTENDED_16 ? 2 : length <= 0xffff ? 4 : 10;
}
