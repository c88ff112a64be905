import type { IncomingMessage, Server } from 'node:http';
import { Server as HttpsServer } from 'node:https';
import type { Duplex } from 'node:stream';

/** Headers that belong to an upgrade and to nothing else (RFC 9110, section 7.8; RFC 7540, section 3.2.1). */
const OF_UPGRADES: ReadonlySet<string> = new Set(['upgrade', 'http2-settings']);

type UpgradeListener = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

/**
 * Serves requests that would like to speak another protocol as if they did not say so (RFC 9110, section 7.8): all but
 * those that open one of our WebSockets. Node.js hands every one of them to whoever listens for upgrades, and Nest
 * closes those without an answer. To be called once Nest listens.
 */
export function serveForeignUpgrades(server: Server, paths: ReadonlySet<string>): void {
  const listeners = server.listeners('upgrade') as UpgradeListener[];
  server.removeAllListeners('upgrade');
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    if (isOurs(request, paths))
      for (const listener of listeners) listener.call(server, request, socket, head);
    else serveWithoutUpgrade(server, request, socket, head);
  });
}

function isOurs({ headers, url = '' }: IncomingMessage, paths: ReadonlySet<string>): boolean {
  if (headers.upgrade?.toLowerCase() !== 'websocket' || !URL.canParse(url, 'ws://here')) return false;
  return paths.has(new URL(url, 'ws://here').pathname);
}

/** Puts what was read of the connection back, without the wish, and has the server begin with the connection anew. */
function serveWithoutUpgrade(server: Server, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const { method, url, httpVersion, rawHeaders } = request;
  const lines = [`${method} ${url} HTTP/${httpVersion}`];
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const [name = '', value = ''] = rawHeaders.slice(index, index + 2);
    if (OF_UPGRADES.has(name.toLowerCase())) continue;
    lines.push(`${name}: ${name.toLowerCase() === 'connection' ? withoutUpgrade(value) : value}`);
  }
  // Node.js reads headers as Latin-1, byte for byte.
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), head]));
  server.emit(server instanceof HttpsServer ? 'secureConnection' : 'connection', socket);
}

function withoutUpgrade(connection: string): string {
  const options = connection.split(',').map((option) => option.trim());
  return options.filter((option) => !OF_UPGRADES.has(option.toLowerCase())).join(', ');
}
