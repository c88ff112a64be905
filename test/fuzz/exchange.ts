import { once } from 'node:events';
import { request as httpRequest, type Agent, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';

/** A request as it goes over the wire. */
export interface WireRequest {
  readonly method: string;
  readonly target: string;
  /** Values hold bytes: a character each (Latin-1). */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer | null;
  readonly chunked: boolean;
}

/** What came back. */
export interface WireAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** How the bytes of a request are spoilt; `at` from 0 to below 1. */
export type Spoil =
  | { readonly kind: 'cut'; readonly at: number }
  | { readonly kind: 'byte'; readonly at: number; readonly byte: number };

/** No answer yet. */
const CONTINUE = /^HTTP\/1\.1 100 [^]*?\r\n\r\n/;

/** Sends a request over a kept connection. @throws when that is lost before the answer has come. */
export async function send(agent: Agent, port: number, request: WireRequest): Promise<WireAnswer> {
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of framed(request)) headers[name] = [...(headers[name] ?? []), value];
  if (headers['host'] !== undefined) headers['host'] = String(headers['host']);
  const outgoing = httpRequest({
    agent,
    host: '127.0.0.1',
    port,
    method: request.method,
    path: request.target,
    headers,
  });
  // The answer may come, and the connection end, before all of a large body is written.
  outgoing.on('error', () => undefined);
  const answered = once(outgoing, 'response') as Promise<[IncomingMessage]>;
  outgoing.end(request.body ?? undefined);
  const [incoming] = await answered;
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) {
    chunks.push(chunk as Buffer);
    if (isStream(String(incoming.headers['content-type']))) break;
  }
  return {
    status: incoming.statusCode ?? 0,
    headers: Object.fromEntries(
      Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]),
    ),
    body: Buffer.concat(chunks).toString('utf8'),
  };
}

/** Sends a request's bytes, spoilt, on a connection of their own. @returns null: it was closed without an answer. */
export async function sendSpoilt(
  port: number,
  request: WireRequest,
  spoil: Spoil,
): Promise<WireAnswer | null> {
  const cut = spoil.kind === 'cut';
  const head = [
    `${request.method} ${request.target} HTTP/1.1`,
    'Host: localhost',
    // A length that has become longer than the body would be waited for.
    ...(cut ? framed({ ...request, chunked: false }) : request.headers).map(
      ([name, value]) => `${name}: ${value}`,
    ),
    'Connection: close',
  ].join('\r\n');
  const body = cut && request.body ? request.body : Buffer.alloc(0);
  const whole = Buffer.concat([Buffer.from(`${head}\r\n\r\n`, 'latin1'), body]);
  const at = Math.floor(spoil.at * (cut ? whole.length : head.length));
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true }).on('error', () => undefined);
  const chunks: Buffer[] = [];
  socket.on('end', () => socket.end());
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    // The byte may have been one of `Connection: close`.
    if (isWhole(Buffer.concat(chunks).toString('latin1'))) socket.destroy();
  });
  if (cut) {
    socket.end(whole.subarray(0, Math.max(at, 1)));
  } else {
    whole[at] = spoil.byte;
    // Its own end stays open: Node drops the request of whoever closes it.
    socket.write(whole);
  }
  await once(socket, 'close');
  return parse(Buffer.concat(chunks));
}

function framed({ method, headers, body, chunked }: WireRequest): (readonly [string, string])[] {
  if (body === null) return [...headers, ...(method === 'GET' ? [] : [['content-length', '0'] as const])];
  return [...headers, chunked ? ['transfer-encoding', 'chunked'] : ['content-length', String(body.length)]];
}

function parse(bytes: Buffer): WireAnswer | null {
  const text = bytes.toString('utf8').replace(CONTINUE, '');
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1] ?? NaN);
  if (Number.isNaN(status)) return null;
  const [head = '', ...rest] = text.split('\r\n\r\n');
  const headers = Object.fromEntries(
    head
      .split('\r\n')
      .slice(1)
      .map((line) => /^([^:]*):\s*(.*)$/.exec(line) ?? [])
      .map(([, name = '', value = '']) => [name.toLowerCase(), value]),
  ) as Record<string, string>;
  return { status, headers, body: rest.join('\r\n\r\n') };
}

/** It goes on for ever. */
function isStream(contentType: string): boolean {
  return contentType.startsWith('text/event-stream');
}

function isWhole(received: string): boolean {
  const answer = received.replace(CONTINUE, '');
  const [head = '', ...rest] = answer.split('\r\n\r\n');
  if (isStream(/^content-type: *(.*)$/im.exec(head)?.[1] ?? '')) return rest.length > 0;
  const length = /^content-length: *(\d+)/im.exec(head)?.[1];
  return length === undefined
    ? answer.endsWith('\r\n0\r\n\r\n')
    : rest.join('\r\n\r\n').length >= Number(length);
}
