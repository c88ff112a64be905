/** Counts the messages in what a WebSocket server sends (RFC 6455, section 5.2): parsing them would take the time that is measured. */
export class FrameCounter {
  private rest: Buffer = Buffer.alloc(0);
  /** Bytes of the current message that are still to come, of those that need not be looked at. */
  private toSkip = 0;

  /**
   * @param heard is given the payload of each message that is whole in this chunk; without it nothing is looked at.
   * @returns how many messages the chunk completes, pings and the like not counted.
   */
  count(chunk: Buffer, heard?: (payload: Buffer) => void): number {
    let bytes = this.rest.length > 0 ? Buffer.concat([this.rest, chunk]) : chunk;
    let messages = 0;
    if (this.toSkip > 0) {
      const skipped = Math.min(this.toSkip, bytes.length);
      this.toSkip -= skipped;
      bytes = bytes.subarray(skipped);
      if (this.toSkip > 0) return 0;
    }
    let at = 0;
    while (at + 2 <= bytes.length) {
      const short = (bytes[at + 1] ?? 0) & 0x7f;
      const head = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (at + head > bytes.length) break;
      const length =
        short < 126
          ? short
          : short === 126
            ? bytes.readUInt16BE(at + 2)
            : Number(bytes.readBigUInt64BE(at + 2));
      const isMessage = ((bytes[at] ?? 0) & 0x0f) < 8;
      const end = at + head + length;
      if (end > bytes.length) {
        if (heard) break;
        // It is counted when it begins: what follows is on its way.
        if (isMessage) messages += 1;
        this.toSkip = end - bytes.length;
        at = bytes.length;
        break;
      }
      if (isMessage) {
        messages += 1;
        heard?.(bytes.subarray(at + head, end));
      }
      at = end;
    }
    this.rest = bytes.subarray(at);
    return messages;
  }
}
