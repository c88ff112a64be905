import { STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Config } from '../config/config.js';
import { codeOfStatus, problemBody } from './problem.filter.js';

const KEEP_ALIVE_MS = 5_000;
const HEADERS_SHARE = 1 / 3;

/** What Node itself refuses, before there is a request. */
const STATUS_OF_CODE: Readonly<Record<string, readonly [status: number, detail: string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'The request was not sent in time.'],
  HPE_HEADER_OVERFLOW: [431, 'Address and headers are larger than 16 kB.'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, 'The chunk extensions are too large.'],
};

/** How long a client may take to send the headers of a request, or to agree on an encryption. */
export function headersTimeout({ requestTimeout }: Pick<Config['http'], 'requestTimeout'>): number {
  return Math.ceil(requestTimeout * HEADERS_SHARE);
}

/** Ends connections of clients that send too slowly, or do not read what they asked for, and answers what is no HTTP. */
export function endSlowClients(server: Server, config: Config): void {
  const { requestTimeout } = config.http;
  server.requestTimeout = requestTimeout;
  server.headersTimeout = headersTimeout(config.http);
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  // Otherwise Node looks every 30 s only. An option of its constructor, which is Nest's to call; read when it listens.
  Object.assign(server, { connectionsCheckingInterval: Math.min(1_000, server.headersTimeout) });
  // Nothing in either direction: an answer may take DATABASE_TIMEOUT to begin. WebSockets lift it for themselves.
  server.setTimeout(requestTimeout + config.databaseTimeout);
  server.on('checkExpectation', unexpected);
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => refuse(error.code, socket));
}

/** RFC 9110, section 10.1.1: an Expect other than 100-continue. Node's own answer to it is empty. */
function unexpected(_request: IncomingMessage, response: ServerResponse): void {
  const detail = 'There is nothing to expect but 100-continue.';
  const body = problemBody({ status: 417, code: codeOfStatus(417), detail });
  response.writeHead(417, {
    'Content-Type': 'application/problem+json; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
  });
  response.end(body);
}

function refuse(errorCode: string | undefined, socket: Socket): void {
  const underWay = (socket as Socket & { _httpMessage?: { readonly headersSent: boolean } })._httpMessage;
  // Before the end of its handshake, what is written to a client would wait for that end.
  const unanswerable = errorCode === 'ECONNRESET' || errorCode === 'ERR_TLS_HANDSHAKE_TIMEOUT';
  if (!socket.writable || unanswerable || underWay?.headersSent === true) {
    socket.destroy();
    return;
  }
  const [status, detail] = STATUS_OF_CODE[errorCode ?? ''] ?? [400, 'This is no HTTP request.'];
  const body = problemBody({ status, code: codeOfStatus(status), detail });
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    'Content-Type: application/problem+json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
  // Whoever does not close its own end is not waited for.
  socket.destroySoon();
}
