import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Issued } from './certificates.js';

/** A message as a receiver got it. */
export interface Received {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  /** Of the CloudEvent. */
  readonly event: {
    readonly id: string;
    readonly type: string;
    readonly subject?: string;
    readonly data: Readonly<Record<string, unknown>>;
  };
}

/** Answers with this status, or by itself. */
type Answering = number | ((response: ServerResponse, received: Received) => void);

/** A receiver of webhooks of the test's own, which answers 204 unless told otherwise. */
export class Receiver {
  readonly received: Received[] = [];
  /** By path. */
  readonly answers = new Map<string, Answering>();
  private constructor(private readonly server: Server) {
    server.on('request', (request, response) => void this.take(request, response));
  }

  /** @param certificate for HTTPS. */
  static async start(certificate?: Issued): Promise<Receiver> {
    const server = certificate
      ? createTlsServer({ cert: readFileSync(certificate.cert), key: readFileSync(certificate.key) })
      : createServer();
    const receiver = new Receiver(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return receiver;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  url(path: string): string {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  at(path: string): readonly Received[] {
    return this.received.filter((each) => each.path === path);
  }

  async end(): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }

  private async take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await text(request);
    const path = request.url ?? '';
    const received = { path, headers: request.headers, body, event: JSON.parse(body) as Received['event'] };
    this.received.push(received);
    const answer = this.answers.get(path) ?? 204;
    if (typeof answer === 'function') answer(response, received);
    else response.writeHead(answer).end();
  }
}

/** As a receiver verifies it: Standard Webhooks 1.0.0. */
export function isGenuine({ headers, body }: Received, secret: string): boolean {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`;
  return headers['webhook-signature'] === `v1,${createHmac('sha256', key).update(signed).digest('base64')}`;
}

/** A service that calls this machine, over HTTP, and tries again at once. */
export const QUICK = {
  WEBHOOKS_ALLOW_HTTP: 'true',
  WEBHOOKS_ALLOW_NETWORKS: '127.0.0.1',
  WEBHOOKS_RETRY_BASE: '1ms',
  WEBHOOKS_TIMEOUT: '2s',
};
