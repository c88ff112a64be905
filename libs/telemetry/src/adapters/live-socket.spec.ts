import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { LiveSocket } from './live-socket.js';

const MAX_BUFFER = 1_000;

describe('LiveSocket', () => {
  const said: string[] = [];
  const socket = {
    OPEN: 1,
    readyState: 1,
    bufferedAmount: 0,
    ping: () => said.push('ping'),
    pong: (data: Buffer) => said.push(`pong ${data.toString()}`),
    close: (code: number) => {
      socket.readyState = 2;
      said.push(`close ${code}`);
    },
  };
  const connection = { write: (frames: Buffer) => said.push(`write ${frames.length}`) };
  let dropped = 0;
  let outlet: LiveSocket;
  beforeEach(() => {
    said.length = 0;
    dropped = 0;
    Object.assign(socket, { readyState: 1, bufferedAmount: MAX_BUFFER });
    outlet = new LiveSocket(
      socket as unknown as WebSocket,
      connection as unknown as Socket,
      MAX_BUFFER,
      false,
      () => (dropped += 1),
    );
  });

  it.each<[string, () => void, string]>([
    ['an event', () => outlet.write(Buffer.alloc(7)), 'write 7'],
    ['an answer', () => outlet.tell('error', { code: 'x' }), 'write'],
    ['the answer to a ping', () => outlet.pong(Buffer.from('here')), 'pong here'],
    ['a ping', () => outlet.ping(), 'ping'],
  ])('sends %s to who reads, and gives up who does not', (_what, send, sent) => {
    send();
    expect(said).toEqual([expect.stringContaining(sent)]);
    said.length = 0;
    socket.bufferedAmount = MAX_BUFFER + 1;
    send();
    send();
    expect([said, dropped]).toEqual([['close 1013'], 1]);
  });
});
