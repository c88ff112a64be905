import { PassThrough, type Writable } from 'node:stream';
import * as ws from 'ws';
import { textFrame } from './web-socket-frame.js';

// Its types leave it out.
const { Receiver } = ws as unknown as { Receiver: new (options: { isServer: boolean }) => Writable };

/** What a WebSocket library reads. */
async function read(frame: Buffer): Promise<string> {
  const receiver = new Receiver({ isServer: false });
  const message = new Promise<string>((resolve, reject) => {
    receiver.on('message', (data: Buffer) => resolve(data.toString()));
    receiver.on('error', reject);
  });
  new PassThrough().end(frame).pipe(receiver);
  return message;
}

describe('textFrame', () => {
  it.each([0, 1, 125, 126, 127, 65_535, 65_536, 200_000])(
    'holds %i bytes as a library reads them',
    async (length) => {
      const message = 'x'.repeat(length);
      expect(await read(textFrame(message))).toBe(message);
    },
  );

  it('counts bytes, not characters', async () => {
    const message = '{"unit":"µV","note":"37 °C, ♥ 🫀"}'.repeat(3);
    expect(await read(textFrame(message))).toBe(message);
  });
});
