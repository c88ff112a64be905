import { OutgoingPublish, publishFrames } from './publish-frames.js';

/** A message to be published at QoS 1. It is read when it goes out, and again if it has to go out again. */
export interface Outgoing {
  readonly topic: string;
  readonly payload: string;
  /** What to send in its place to a broker that does not accept as much. */
  reduced?(maxBytes: number): string;
  /** MQTT 5 only: {@link encodeProperties}. */
  readonly properties?: Buffer;
  /** It need not go out any more, and counts as taken. Asked when it would go out, or go out again. */
  readonly withdrawn?: boolean;
  /** It must not go out any more, and counts as not sent. Asked right before it is written, in a lane that keeps nothing. */
  readonly lapsed?: boolean;
}

/** What has become of a message that was to go out on the connection that stood, or not at all. */
export type PublishOutcome =
  /** The broker has it. */
  | { readonly kind: 'taken' }
  /** The broker has said that nobody has a subscription to it, so that nobody gets it, now or later. */
  | { readonly kind: 'unheard' }
  /** It was not sent. */
  | { readonly kind: 'unsent' }
  /** The connection ended before the broker answered; `alone`: and nothing else was waiting for an answer. */
  | { readonly kind: 'unanswered'; readonly alone: boolean }
  /** The broker said no, by a reason code of MQTT 5. */
  | { readonly kind: 'refused'; readonly reason: number }
  /** The broker has said that it accepts no packet of that size. */
  | { readonly kind: 'too_large'; readonly maxBytes: number };

/** Why a message was given up. */
class PublishFailure extends Error {
  constructor(
    readonly outcome: PublishOutcome,
    message: string,
  ) {
    super(message);
  }
}

/** Messages handed over together, until the broker has taken the last of them. */
interface Lot {
  left: number;
  /** Of a lot of one: nobody gets it. */
  unheard: boolean;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface Entry {
  readonly message: Outgoing;
  readonly lot: Lot;
}

/** What a lane may use, and what it does with messages whose connection ends. */
export interface LaneRules {
  /** Packet ids that nobody else gives out on the same connection. */
  readonly firstId: number;
  readonly lastId: number;
  /** Whether what is not acknowledged goes out again on the next connection; given up otherwise. */
  readonly keeps: boolean;
}

/** Messages that must go out, however long that takes. */
export const LASTING: LaneRules = { firstId: 32_768, lastId: 65_535, keeps: true };
/** Messages that somebody else keeps: they go out on the connection that stands, or not at all. */
export const PASSING: LaneRules = { firstId: 16_384, lastId: 32_767, keeps: false };
/** MQTT 5, section 3.4.2.1: from here on a reason code is a failure. */
const FIRST_FAILURE = 0x80;
/** MQTT 5, section 3.4.2.1: the message is accepted but there are no subscribers. Brokers may say so, and need not. */
const NO_MATCHING_SUBSCRIBERS = 0x10;
/** What a PUBLISH of QoS 1 takes besides topic and payload, at most: its header, two lengths and no properties. */
const FRAME_OVERHEAD = 10;

/**
 * Publishes many messages at once: frames of a batch are written together, and counted as the broker acknowledges them.
 * A client library keeps a store and a promise for each.
 *
 * What the broker has not acknowledged when a connection ends goes out again on the next, in its order: at least once.
 * Unless the lane keeps nothing: then it is for whoever handed it over to say whether it goes out again.
 */
export class PublishLane {
  /** Waiting for a place in the window, oldest first, from `head` on. */
  private queue: Entry[] = [];
  private head = 0;
  /** By packet id, in the order they were written. */
  private readonly underWay = new Map<number, Entry>();
  private write: ((frames: Buffer) => void) | undefined;
  private window = 0;
  private maxPacket = Infinity;
  private lastId: number;
  private closed = false;

  /**
   * @param version 4 for MQTT 3.1.1, 5 for MQTT 5.
   * @param onUnsendable hears of a message that no packet the broker accepts can hold. It counts as taken: kept, it would
   * end each connection and hold all others up. In a lane that keeps nothing it is refused.
   */
  constructor(
    private readonly version: 4 | 5,
    private readonly onUnsendable: () => void = () => undefined,
    private readonly rules: LaneRules = LASTING,
  ) {
    this.lastId = rules.lastId;
  }

  /** Messages the broker has not acknowledged yet. */
  get waiting(): number {
    return this.queue.length - this.head + this.underWay.size;
  }

  /**
   * Publishes messages in this order; while no connection stands they wait for the next.
   * @returns resolves when the broker has taken all of them.
   * @throws when the broker refuses one, or the lane is closed before.
   */
  async publish(messages: readonly Outgoing[]): Promise<void> {
    if (messages.length === 0) return;
    this.assertOpen();
    await new Promise<void>((resolve, reject) => {
      const lot: Lot = { left: messages.length, unheard: false, resolve, reject };
      for (const message of messages) this.queue.push({ message, lot });
      this.pump();
    });
  }

  /**
   * As {@link publish}, with an answer for each message, in a lane that keeps nothing.
   * @throws when no connection stands.
   */
  async publishEach(messages: readonly Outgoing[]): Promise<readonly PublishOutcome[]> {
    this.assertOpen();
    const outcomes = messages.map(
      (message) =>
        new Promise<PublishOutcome>((done) => {
          const lot: Lot = {
            left: 1,
            unheard: false,
            resolve: () => done({ kind: lot.unheard ? 'unheard' : 'taken' }),
            reject: (error) => done(error instanceof PublishFailure ? error.outcome : { kind: 'unsent' }),
          };
          this.queue.push({ message, lot });
        }),
    );
    this.pump();
    return Promise.all(outcomes);
  }

  /**
   * A connection stands.
   * @param window how many unacknowledged messages the broker accepts.
   * @param write sends bytes on it.
   * @param maxPacket bytes a packet may have (MQTT 5, section 3.2.2.3.6); a larger one ends the connection.
   */
  connected(window: number, write: (frames: Buffer) => void, maxPacket = Infinity): void {
    this.maxPacket = maxPacket;
    this.window = Math.min(window, this.rules.lastId - this.rules.firstId);
    this.write = write;
    this.pump();
  }

  /** Messages that were sent on the connection that stands and are not acknowledged yet. */
  get unanswered(): number {
    return this.underWay.size;
  }

  /**
   * The connection has ended.
   * @param others how many messages of other lanes the broker had not answered then.
   */
  disconnected(others = 0): void {
    this.write = undefined;
    const unanswered = [...this.underWay.values()];
    const unsent = this.queue.slice(this.head);
    this.head = 0;
    this.underWay.clear();
    this.queue = this.rules.keeps ? [...unanswered, ...unsent] : unsent;
    if (this.rules.keeps) return;
    const ended = 'the connection to the broker has ended';
    const alone = unanswered.length + others === 1;
    for (const { lot } of unanswered) lot.reject(new PublishFailure({ kind: 'unanswered', alone }, ended));
    this.giveUp(new Error(ended));
  }

  /**
   * The broker has acknowledged a message.
   * @param reason MQTT 5's reason code; 0 is success.
   * @returns false when it is none of the lane's.
   */
  acknowledged(packetId: number, reason: number): boolean {
    if (packetId < this.rules.firstId || packetId > this.rules.lastId) return false;
    const entry = this.underWay.get(packetId);
    if (!entry) return true;
    this.underWay.delete(packetId);
    if (reason === NO_MATCHING_SUBSCRIBERS) entry.lot.unheard = true;
    if (reason >= FIRST_FAILURE)
      entry.lot.reject(
        new PublishFailure(
          { kind: 'refused', reason },
          `the broker refused a message (reason ${reason.toString(16)})`,
        ),
      );
    settleOne(entry.lot);
    return true;
  }

  /** Fills the window again: after acknowledgements. */
  pump(): void {
    const { write } = this;
    if (!write) return;
    const publishes: OutgoingPublish[] = [];
    while (this.head < this.queue.length && this.underWay.size < this.window) {
      const entry = this.queue[this.head] as Entry;
      this.head += 1;
      if (entry.message.withdrawn) {
        settleOne(entry.lot);
        continue;
      }
      if (!this.rules.keeps && entry.message.lapsed) {
        entry.lot.reject(new PublishFailure({ kind: 'unsent' }, 'it was too late for a message'));
        continue;
      }
      const packetId = this.nextId();
      const publish = this.publishOf(entry.message, packetId);
      if (!publish) {
        this.onUnsendable();
        const maxBytes = this.maxPacket;
        if (!this.rules.keeps)
          entry.lot.reject(
            new PublishFailure({ kind: 'too_large', maxBytes }, 'the broker accepts no message as large'),
          );
        settleOne(entry.lot);
        continue;
      }
      this.underWay.set(packetId, entry);
      publishes.push(publish);
    }
    if (this.head === this.queue.length) {
      this.queue = [];
      this.head = 0;
    }
    if (publishes.length > 0) write(publishFrames(publishes));
  }

  /** Gives up what still waits. */
  close(): void {
    this.closed = true;
    this.disconnected();
    this.giveUp(closing());
  }

  private assertOpen(): void {
    if (this.closed) throw closing();
    if (!this.rules.keeps && !this.write) throw new Error('there is no connection to the broker');
  }

  private giveUp(reason: Error): void {
    for (const { lot } of this.queue) lot.reject(reason);
    this.queue = [];
  }

  /** Null when the broker accepts no packet of that size. */
  private publishOf(message: Outgoing, packetId: number): OutgoingPublish | null {
    const { topic, properties } = message;
    const whole = new OutgoingPublish(topic, message.payload, packetId, this.version, properties);
    if (whole.length <= this.maxPacket) return whole;
    const text = message.reduced?.(this.maxPacket - FRAME_OVERHEAD - Buffer.byteLength(topic));
    if (text === undefined) return null;
    const smaller = new OutgoingPublish(topic, text, packetId, this.version);
    return smaller.length <= this.maxPacket ? smaller : null;
  }

  /** The window is smaller than the ids are many: one is always free. */
  private nextId(): number {
    do {
      this.lastId = this.lastId >= this.rules.lastId ? this.rules.firstId : this.lastId + 1;
    } while (this.underWay.has(this.lastId));
    return this.lastId;
  }
}

/** One less to wait for; after a refusal, resolving says nothing more. */
function settleOne(lot: Lot): void {
  lot.left -= 1;
  if (lot.left === 0) lot.resolve();
}

function closing(): Error {
  return new Error('the connection to the broker is being closed');
}
