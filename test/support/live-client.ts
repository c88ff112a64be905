import { once } from 'node:events';
import { WebSocket } from 'ws';
import { until } from './until.js';

/** A message of the live stream. */
export interface LiveMessage {
  readonly event: string;
  readonly id?: string;
  readonly time?: string;
  readonly data: Record<string, unknown>;
}

/** The event's own name: its id without the position it has in the stream. */
export const nameOf = ({ id = '' }: LiveMessage): string => id.slice(id.indexOf('_') + 1);

/** A WebSocket client that remembers what it was told. */
export class LiveClient {
  readonly messages: LiveMessage[] = [];
  /** What the server has closed with, if it has. */
  closeCode: number | undefined;

  private constructor(readonly socket: WebSocket) {
    socket.on('message', (data: Buffer) =>
      this.messages.push(JSON.parse(data.toString('utf8')) as LiveMessage),
    );
    socket.on('close', (code) => {
      this.closeCode = code;
    });
    socket.on('error', () => undefined);
  }

  /** Resolves when the handshake is done. @throws when it is refused. */
  static async open(url: string, headers: Record<string, string> = {}): Promise<LiveClient> {
    const client = new LiveClient(new WebSocket(url, { headers }));
    await once(client.socket, 'open');
    return client;
  }

  say(message: unknown): void {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  /** The first message of this event that satisfies the condition, waiting for it if need be. */
  async hear(
    event: string,
    condition: (data: Record<string, unknown>) => boolean = () => true,
  ): Promise<LiveMessage> {
    return until(`the message ${event}`, () =>
      this.messages.find((message) => message.event === event && condition(message.data)),
    );
  }

  /** The code the server closes with, waiting for it if need be. */
  async closed(): Promise<number> {
    return until('the server to close', () => this.closeCode);
  }

  end(): void {
    this.socket.terminate();
  }
}
