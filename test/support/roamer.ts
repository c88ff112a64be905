import { WebSocket } from 'ws';
import type { LiveMessage } from './live-client.js';

/** A client of the stream that is cut off now and then, and goes on at another replica from the last id it has read. */
export class Roamer {
  readonly read: LiveMessage[] = [];
  readonly errors: unknown[] = [];
  /** How often it went on elsewhere. */
  moves = 0;
  private socket: WebSocket | undefined;

  private constructor(
    private readonly next: () => string,
    private readonly toRead: () => number,
    private since: string | null,
  ) {}

  /**
   * Connects, and resolves when it can be told of something.
   * @param next the address to connect to, with a token.
   * @param toRead how many events it reads before it is cut off again.
   */
  static async start(next: () => string, toRead: () => number = () => Infinity): Promise<Roamer> {
    const roamer = new Roamer(next, toRead, null);
    await new Promise<void>((resolve) => roamer.connect(resolve));
    return roamer;
  }

  /** The numbers a device's measurements carry, in the order they were read. */
  numbersOf(deviceId: string): unknown[] {
    return this.measured(deviceId).map(({ data }) => data['number']);
  }

  measured(deviceId: string): LiveMessage[] {
    return this.read.filter(
      ({ event, data }) => event === 'device.data.received' && data['device_id'] === deviceId,
    );
  }

  end(): void {
    const { socket } = this;
    this.socket = undefined;
    socket?.terminate();
  }

  private connect(connected?: () => void): void {
    const address = this.next();
    const socket = new WebSocket(this.since === null ? address : `${address}&since=${this.since}`);
    this.socket = socket;
    let left = this.toRead();
    socket.on('error', () => undefined);
    socket.on('close', () => {
      if (this.socket !== socket) return;
      this.moves += 1;
      // At once, and again until one is there.
      setImmediate(() => this.socket === socket && this.connect(connected));
    });
    socket.on('message', (data: Buffer) => {
      const message = JSON.parse(data.toString('utf8')) as LiveMessage;
      if (message.event === 'error') this.errors.push(message.data);
      if (message.event === 'connected') {
        this.since ??= String(message.data['last_id']);
        connected?.();
      }
      // What is read after the cut was never read.
      if (left <= 0 || message.id === undefined) return;
      this.read.push(message);
      this.since = message.id;
      left -= 1;
      if (left <= 0) socket.terminate();
    });
  }
}
