// The reference: a bare `ws` server that sends a prepared string to all its clients, round after round, as fast as they
// take it. Prints its port; begins with the first line it reads, and ends after as many rounds as that says.
import { createInterface } from 'node:readline';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { WebSocketServer } from 'ws';

const text = process.argv[2] ?? '';
/** A client that has more waiting is not sent more until it has less. */
const MAX_WAITING = 1_048_576;

const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
server.on('connection', (socket) => socket.send('{"event":"connected"}'));
server.on('listening', () => {
  const address = server.address();
  process.stdout.write(`${typeof address === 'object' ? address?.port : ''}\n`);
});
createInterface({ input: process.stdin }).on('line', (rounds) => void send(Number(rounds)));

async function send(rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    while ([...server.clients].some(({ bufferedAmount }) => bufferedAmount > MAX_WAITING)) await nextTurn();
    for (const client of server.clients) client.send(text);
    await nextTurn();
  }
}
