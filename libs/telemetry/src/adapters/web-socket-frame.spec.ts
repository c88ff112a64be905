import { PassThrough, type Writable } from 'node:stream';
import * as ws from 'ws';
import { textFrames } from './web-socket-frame.js';

// Its types leave it out.
const { Receiver } = ws as unknown as { Receiver: new (options: { isServer: boolean }) => Writable };

/** What a WebSocket library reads. */
async function read(frames: Buffer, count: number): Promise<readonly string[]> {
  const receiver = new Receiver({ isServer: false });
  const read: string[] = [];
  const all = new Promise<readonly string[]>((resolve, reject) => {
    receiver.on('message', (data: Buffer) => {
      read.push(data.toString());
      if (read.length === count) resolve(read);
    });
    receiver.on('error', reject);
  });
  new PassThrough().end(frames).pipe(receiver);
  return all;
}

describe('textFrames', () => {
  it.each([0, 1, 125, 126, 127, 65_535, 65_536, 200_000])(
    'holds %i bytes as a library reads them',
    async (length) => {
      const message = 'x'.repeat(length);
      expect(await read(textFrames([message]), 1)).toEqual([message]);
    },
  );

  it('counts bytes, not characters', async () => {
    const message = '{"unit":"µV","note":"37 °C, ♥ 🫀"}'.repeat(3);
    expect(await read(textFrames([message]), 1)).toEqual([message]);
  });

  it('holds messages in their order', async () => {
    const messages = ['a', '°'.repeat(100), '', 'x'.repeat(70_000), 'z'];
    expect(await read(textFrames(messages), messages.length)).toEqual(messages);
  });
});
