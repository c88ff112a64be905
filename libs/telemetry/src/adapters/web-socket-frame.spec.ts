import { PassThrough, type Writable } from 'node:stream';
import * as ws from 'ws';
import { deflatedTextFrames, textFrames } from './web-socket-frame.js';

// Its types leave it out.
const { Receiver, PerMessageDeflate } = ws as unknown as {
  Receiver: new (options: { isServer: boolean; extensions?: object }) => Writable;
  PerMessageDeflate: new (options: { isServer: boolean }) => { accept(agreed: readonly object[]): object };
};

/** What a WebSocket library reads. */
async function read(frames: Buffer, count: number, isCompressed = false): Promise<readonly string[]> {
  const deflate = new PerMessageDeflate({ isServer: false });
  deflate.accept([{ server_no_context_takeover: [true] }]);
  const extensions = isCompressed ? { 'permessage-deflate': deflate } : {};
  const receiver = new Receiver({ isServer: false, extensions });
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

describe('deflatedTextFrames', () => {
  it('holds large messages compressed and small ones as they are, each readable by itself and in order', async () => {
    const messages = ['a', 'x°'.repeat(40_000), '', `[${'1,'.repeat(600)}1]`, 'z'.repeat(1_023)];
    const frames = deflatedTextFrames(messages);
    expect(await read(frames, messages.length, true)).toEqual(messages);
    expect(frames.length).toBeLessThan(2_500);
    expect(await read(deflatedTextFrames(messages.slice(3)), 2, true)).toEqual(messages.slice(3));
  });
});
