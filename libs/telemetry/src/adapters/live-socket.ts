import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import type { FrameFormat } from '../application/audience.js';
import type { Outlet } from '../application/subscription.js';
import { deflatedTextFrames, textFrames } from './web-socket-frame.js';

/** RFC 6455 registry, 1013: try again later. */
export const TRY_AGAIN_LATER = 1013;
/** A client that has not read so much by then is not reading. */
const DRAINED_WITHIN_MS = 10_000;
/** How long a client that is not listened to any more may take to read why. */
const GOODBYE_MS = 1_000;

/** So much waits for a client that is told what it missed, and a message; not all that it could be given. */
const AHEAD_BYTES = 131_072;

/** The WebSockets' own way to send is not used: it would make a header anew for each of them. */
const WEB_SOCKET: FrameFormat = { encode: (messages) => textFrames(messages.map(({ text }) => text)) };

const COMPRESSED_WEB_SOCKET: FrameFormat = {
  encode: (messages) => deflatedTextFrames(messages.map(({ text }) => text)),
};

/** A WebSocket as the stream sees it: it writes frames that were made for many, and gives up who does not read them. */
export class LiveSocket implements Outlet {
  readonly format: FrameFormat;
  private deaf = false;

  /**
   * @param connection what the WebSocket runs on.
   * @param compresses whether large messages are to be sent compressed.
   * @param onDropped hears that a client was given up.
   */
  constructor(
    private readonly socket: WebSocket,
    private readonly connection: Socket,
    readonly maxBuffer: number,
    compresses: boolean,
    private readonly onDropped: () => void,
  ) {
    this.format = compresses ? COMPRESSED_WEB_SOCKET : WEB_SOCKET;
  }

  isClosed(): boolean {
    return this.socket.readyState !== this.socket.OPEN;
  }

  write(frames: Buffer): void {
    if (this.hasRoom()) this.connection.write(frames);
  }

  get isFull(): boolean {
    return this.socket.bufferedAmount > Math.min(AHEAD_BYTES, this.maxBuffer / 2);
  }

  async drained(): Promise<boolean> {
    if (!this.isClosed() && this.connection.writableNeedDrain) await this.roomAgain();
    return !this.isClosed();
  }

  /** Says something to this client alone. */
  tell(event: string, data: Readonly<Record<string, unknown>>): void {
    this.write(textFrames([JSON.stringify({ event, time: new Date().toISOString(), data })]));
  }

  ping(): void {
    if (this.hasRoom()) this.socket.ping();
  }

  /** Answers a ping, with what came with it (RFC 6455, section 5.5.3). */
  pong(data: Buffer): void {
    if (this.hasRoom()) this.socket.pong(data);
  }

  close(code: number, reason: string): void {
    this.socket.close(code, reason);
  }

  /** Reads nothing more of what it sends, also not the rest of a flood, and ends the connection for good a moment later. */
  ignore(): void {
    if (this.deaf) return;
    this.deaf = true;
    this.socket.pause();
    setTimeout(() => this.socket.terminate(), GOODBYE_MS).unref();
  }

  /** Whether more may be sent; whoever has not read what was sent before is given up. */
  private hasRoom(): boolean {
    if (this.isClosed()) return false;
    if (this.socket.bufferedAmount <= this.maxBuffer) return true;
    this.drop();
    return false;
  }

  private async roomAgain(): Promise<void> {
    const { connection } = this;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        connection.off('drain', done).off('close', done);
        resolve();
      };
      const timer = setTimeout(() => {
        this.drop();
        done();
      }, DRAINED_WITHIN_MS);
      connection.on('drain', done).on('close', done);
    });
  }

  private drop(): void {
    this.onDropped();
    this.close(TRY_AGAIN_LATER, 'too slow');
  }
}
