import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import type { LiveMessage } from './live-client.js';
import { until } from './until.js';

/** A client of GET /stream that remembers what it was told. */
export class EventSourceClient {
  readonly messages: LiveMessage[] = [];
  /** What it would say as Last-Event-ID. */
  lastEventId = '';
  heartbeats = 0;
  private isOver = false;
  private rest = '';

  private constructor(
    readonly response: IncomingMessage,
    private readonly heard: (message: LiveMessage) => void,
  ) {
    response.setEncoding('utf8').on('data', (text: string) => this.read(text));
    response.on('error', () => undefined).on('close', () => (this.isOver = true));
  }

  /**
   * Resolves when the answer has begun; one that refuses is not read.
   * @param heard is told of each event as it is read.
   */
  static async open(
    port: number,
    query: string,
    headers: Record<string, string>,
    heard: (message: LiveMessage) => void = () => undefined,
  ): Promise<EventSourceClient> {
    const outgoing = request({ host: '127.0.0.1', port, path: `/stream${query}`, headers, agent: false });
    outgoing.end();
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    outgoing.on('error', () => undefined);
    return new EventSourceClient(response, heard);
  }

  /** The first message of this event that satisfies the condition, waiting for it if need be. */
  async hear(
    event: string,
    condition: (data: Record<string, unknown>) => boolean = () => true,
  ): Promise<LiveMessage> {
    return until(`the event ${event}`, () =>
      this.messages.find((message) => message.event === event && condition(message.data)),
    );
  }

  /** Waits for the end of the answer. */
  async closed(): Promise<void> {
    await until('the end of the stream', () => this.isOver);
  }

  end(): void {
    this.response.destroy();
  }

  /** HTML standard, section 9.2.6. */
  private read(text: string): void {
    const blocks = (this.rest + text).split('\n\n');
    this.rest = blocks.pop() ?? '';
    for (const block of blocks) {
      if (this.response.destroyed) return;
      const fields = new Map<string, string>();
      for (const line of block.split('\n')) {
        const [, name = '', value = ''] = /^([^:]*): ?(.*)$/.exec(line) ?? [];
        fields.set(name, value);
      }
      if (fields.has('')) this.heartbeats += 1;
      this.lastEventId = fields.get('id') ?? this.lastEventId;
      const data = fields.get('data');
      if (data === undefined) continue;
      const message = JSON.parse(data) as LiveMessage;
      if (message.event !== fields.get('event') || (message.id ?? fields.get('id')) !== fields.get('id'))
        throw new Error(`the fields contradict the data: ${block}`);
      this.messages.push(message);
      this.heard(message);
    }
  }
}
