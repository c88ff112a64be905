import { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import { PublishFrames, readPuback, repliesOf, replyToPubrel, type Publish } from './publish-frames.js';

/**
 * A connection to a broker as mqtt.js sees it, without the PUBLISHes: those are taken out on the way in and handed
 * over directly, and acknowledged here, without a packet object and a callback for each. mqtt.js keeps the conversation:
 * CONNECT, SUBSCRIBE, keep-alive, reconnecting.
 */
export class PublishTap extends Duplex {
  private readonly frames: PublishFrames;

  /**
   * @param wire connected or connecting; the tap ends with it, and it with the tap.
   * @param onPublish receives each PUBLISH, in the order of arrival.
   * @param onPuback receives each PUBACK and says whether it was meant for the receiver; others are passed on.
   */
  constructor(
    private readonly wire: Socket,
    version: 4 | 5,
    onPublish: (publish: Publish) => void,
    onPuback: (packetId: number, reason: number) => boolean = () => false,
  ) {
    super();
    this.frames = new PublishFrames(version, onPublish, (packet) => {
      const pubcomp = replyToPubrel(packet);
      if (pubcomp) {
        this.write(pubcomp);
        return;
      }
      const puback = readPuback(packet);
      if (!puback || !onPuback(puback.packetId, puback.reason)) this.push(packet);
    });
    wire.setNoDelay(true);
    wire.on('data', (chunk: Buffer) => {
      try {
        this.frames.read(chunk);
      } catch (error) {
        this.destroy(error as Error);
      }
    });
    wire.on('error', (error) => this.destroy(error));
    wire.on('close', () => this.destroy());
  }

  /** Answers messages, in this order. */
  acknowledge(replies: readonly number[]): void {
    if (!this.destroyed) this.write(repliesOf(replies));
  }

  /** Reads nothing more from the broker until {@link release}: TCP then holds it back. */
  hold(): void {
    this.wire.pause();
  }

  release(): void {
    this.wire.resume();
  }

  override _read(): void {
    // What is passed on are answers to the service's own requests: few, and pushed as they come.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.wire.write(chunk, done);
  }

  override _writev(
    chunks: readonly { readonly chunk: Buffer }[],
    done: (error?: Error | null) => void,
  ): void {
    this.wire.write(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.wire.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.wire.destroy();
    done(error);
  }
}
