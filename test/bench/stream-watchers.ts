// Clients of a WebSocket, as a process of their own: plain sockets, so that reading takes as little as it can. Ready when
// all have been greeted; then one JSON line for each line that is written to its standard input.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { FrameCounter } from './frame-counter.js';

/** What the watchers are told, as JSON in the first argument. */
export interface WatchersOrder {
  readonly port: number;
  readonly clients: number;
  /** The path of their handshakes; `{n}` stands for the number of each. */
  readonly path: string;
  /** How many of them, from the last, read nothing after the handshake. */
  readonly stalled: number;
  /** Whether the events say when they were published, in their timestamp. */
  readonly timed: boolean;
}

/** What they have read so far. */
export interface WatchersReport {
  readonly messages: number;
  /** Milliseconds from publish to the client, of what was read since the last report. */
  readonly p50: number;
  readonly p99: number;
  readonly at: number;
  readonly closed: number;
}

/** Latencies are in tenths of a millisecond up to a minute. */
const TENTHS = 600_000;

const order = JSON.parse(process.argv[2] ?? '') as WatchersOrder;
const now = (): number => performance.timeOrigin + performance.now();
const counts = new Uint32Array(TENTHS);
let messages = 0;
let closed = 0;

function note(payload: Buffer): void {
  const at = payload.indexOf('"timestamp":"');
  if (at < 0) return;
  const text = payload.toString('latin1', at + 13, at + 40);
  const micros = Number(text.slice(23, 26));
  const published = Date.parse(`${text.slice(0, 23)}Z`) + micros / 1_000;
  const tenths = Math.min(TENTHS - 1, Math.max(0, Math.round((now() - published) * 10)));
  counts[tenths] = (counts[tenths] ?? 0) + 1;
}

/** Resolves when it has been greeted. */
async function open(path: string, reads: boolean): Promise<Socket> {
  const socket = connect(order.port, '127.0.0.1').setNoDelay(true);
  socket.on('error', () => undefined).on('close', () => (closed += 1));
  await once(socket, 'connect');
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`,
  );
  const counter = new FrameCounter();
  const heard = order.timed ? note : undefined;
  let head = '';
  await new Promise<void>((resolve, reject) => {
    socket.on('close', () => reject(new Error(`not let in: ${head}`)));
    socket.on('data', function greeted(chunk: Buffer) {
      head += chunk.toString('latin1');
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      if (!head.startsWith('HTTP/1.1 101')) reject(new Error(head));
      if (counter.count(Buffer.from(head.slice(end + 4), 'latin1')) === 0) {
        head = head.slice(0, end + 4);
        return;
      }
      socket.off('data', greeted);
      if (reads) {
        socket.on('data', (more: Buffer) => {
          messages += counter.count(more, heard);
        });
      } else {
        socket.pause();
      }
      resolve();
    });
  });
  return socket;
}

function report(): WatchersReport {
  const [p50, p99] = [quantile(0.5), quantile(0.99)];
  counts.fill(0);
  return { messages, p50, p99, at: now(), closed };
}

function quantile(share: number): number {
  const wanted = counts.reduce((sum, count) => sum + count, 0) * share;
  let passed = 0;
  const tenths = counts.findIndex((count) => (passed += count) > wanted);
  return Math.max(tenths, 0) / 10;
}

const LOT = 50;
for (let first = 0; first < order.clients; first += LOT) {
  const lot = Array.from({ length: Math.min(LOT, order.clients - first) }, (_, index) => first + index);
  await Promise.all(
    lot.map((index) => open(order.path.replace('{n}', String(index)), index < order.clients - order.stalled)),
  );
}
process.stdout.write('ready\n');
createInterface({ input: process.stdin }).on('line', () =>
  process.stdout.write(`${JSON.stringify(report())}\n`),
);
