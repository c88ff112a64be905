import { constants, deflateRawSync } from 'node:zlib';

const FIN_AND_TEXT = 0x81;
/** RFC 7692, section 6: RSV1 marks a message that is compressed. */
const COMPRESSED = 0x40;
/** Below, what is saved is less than what it costs: the same limit as that of ws. */
const COMPRESSED_FROM_BYTES = 1_024;
/** RFC 7692, section 7.2.1: an empty block at the end is not sent. */
const EMPTY_BLOCK_BYTES = 4;
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

/**
 * {@link textFrames}, for those who have agreed on permessage-deflate: large messages compressed, each by itself. At once
 * rather than in another thread, so that no later message overtakes it; and once for all who get it.
 */
export function deflatedTextFrames(messages: readonly string[]): Buffer {
  return Buffer.concat(
    messages.map((message) =>
      Buffer.byteLength(message) < COMPRESSED_FROM_BYTES ? textFrames([message]) : deflatedFrame(message),
    ),
  );
}

function deflatedFrame(message: string): Buffer {
  const options = { level: constants.Z_BEST_SPEED, finishFlush: constants.Z_SYNC_FLUSH };
  const deflated = deflateRawSync(Buffer.from(message, 'utf8'), options);
  const length = deflated.length - EMPTY_BLOCK_BYTES;
  const bytes = Buffer.allocUnsafe(headLength(length) + length);
  const at = writeHead(bytes, 0, length);
  bytes[0] = FIN_AND_TEXT | COMPRESSED;
  deflated.copy(bytes, at, 0, length);
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
