// One WebSocket client that reads everything it is sent.
import { WebSocket } from 'ws';

new WebSocket(process.argv[2] ?? '')
  .once('open', () => process.stdout.write('ready\n'))
  .on('message', () => undefined);
