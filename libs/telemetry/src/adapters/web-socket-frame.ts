const FIN_AND_TEXT = 0x81;
const EXTENDED_16 = 126;
const EXTENDED_64 = 127;

/**
 * A text message as it stands on the wire, unmasked as servers send it and uncompressed (RFC 6455, section 5.2). Made once
 * for all who get it.
 */
export function textFrame(message: string): Buffer {
  const length = Buffer.byteLength(message);
  const head = length < EXTENDED_16 ? 2 : length <= 0xffff ? 4 : 10;
  const frame = Buffer.allocUnsafe(head + length);
  frame[0] = FIN_AND_TEXT;
  if (head === 2) frame[1] = length;
  else if (head === 4) {
    frame[1] = EXTENDED_16;
    frame.writeUInt16BE(length, 2);
  } else {
    frame[1] = EXTENDED_64;
    frame.writeBigUInt64BE(BigInt(length), 2);
  }
  frame.write(message, head);
  return frame;
}
