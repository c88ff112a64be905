import type { ServerResponse } from 'node:http';
import { PassThrough } from 'node:stream';
import type { FrameFormat } from '../application/audience.js';
import type { Outlet } from '../application/subscription.js';

/** A client that has not read so much by then is not reading. */
const DRAINED_WITHIN_MS = 10_000;
/** How long a client that is given up may take to read why. */
const GOODBYE_MS = 10_000;
const HEARTBEAT = Buffer.from(':\n\n');

/** HTML standard, section 9.2.5. The data is the message as on the WebSocket: JSON, which has no line ends. */
const SERVER_SENT: FrameFormat = {
  encode: (messages) =>
    Buffer.from(
      messages.map(({ id, type, text }) => `id: ${id}\nevent: ${type}\ndata: ${text}\n\n`).join(''),
    ),
};

/** An HTTP answer that goes on as long as somebody reads it: server-sent events. It gives up who does not read them. */
export class EventStream implements Outlet {
  readonly format = SERVER_SENT;
  /** What is still to be sent, for the answer to be made of. */
  readonly body = new PassThrough();
  private ended = false;

  /**
   * @param response what the body goes to.
   * @param onEnd hears, once, that nothing more will be sent.
   * @param onDropped hears that a client was given up.
   */
  constructor(
    private readonly response: ServerResponse,
    readonly maxBuffer: number,
    private readonly onEnd: () => void,
    private readonly onDropped: () => void,
  ) {
    // Unheard, it would end the process: a write to what has just been closed.
    this.body.on('error', () => undefined).once('close', () => this.finish());
    response.once('close', () => {
      this.finish();
      this.body.destroy();
    });
  }

  write(frames: Buffer): void {
    if (this.ended) return;
    if (this.bufferedAmount > this.maxBuffer) this.drop();
    else this.body.write(frames);
  }

  get isFull(): boolean {
    return this.body.writableNeedDrain;
  }

  async drained(): Promise<boolean> {
    if (!this.ended && this.body.writableNeedDrain) await this.roomAgain();
    return !this.ended;
  }

  /** Says something to this client alone. @param id from where on it goes on when it comes back; null: as before. */
  tell(event: string, data: Readonly<Record<string, unknown>>, id: string | null = null): void {
    const text = JSON.stringify({ event, time: new Date().toISOString(), data });
    this.write(Buffer.from(`${id === null ? '' : `id: ${id}\n`}event: ${event}\ndata: ${text}\n\n`));
  }

  /** Shows that it is still there, where there is nothing to tell. */
  beat(): void {
    // Whoever has not read what came before needs none.
    if (this.bufferedAmount === 0) this.write(HEARTBEAT);
  }

  /** Ends it, and says why. */
  end(code: string, message: string): void {
    if (this.ended) return;
    const text = JSON.stringify({ event: 'error', time: new Date().toISOString(), data: { code, message } });
    this.body.end(Buffer.from(`event: error\ndata: ${text}\n\n`));
    this.finish();
    setTimeout(() => this.response.destroy(), GOODBYE_MS).unref();
  }

  private get bufferedAmount(): number {
    return this.body.writableLength + this.body.readableLength + this.response.writableLength;
  }

  private finish(): void {
    if (this.ended) return;
    this.ended = true;
    this.onEnd();
  }

  private async roomAgain(): Promise<void> {
    const { body } = this;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        body.off('drain', done).off('close', done);
        resolve();
      };
      const timer = setTimeout(() => {
        this.drop();
        done();
      }, DRAINED_WITHIN_MS);
      body.on('drain', done).on('close', done);
    });
  }

  private drop(): void {
    this.onDropped();
    this.end('too_slow', 'What was sent was not read. Come back with Last-Event-ID.');
  }
}
