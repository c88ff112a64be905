import type { Principal } from '#kernel';
import type { StreamFilter } from '../domain/stream-filter.js';
import type { StreamPosition } from '../domain/stream-position.js';
import type { FrameFormat, StreamMessage, Watcher } from './audience.js';
import type { LiveFeed } from './live-feed.js';
import type { Listener, StreamReplay } from './stream-replay.js';

/** Messages behind the stream from which on the rest is read from the log while the stream already flows in. */
const NEAR = 5_000;

/** Where a subscription's messages go. */
export interface Outlet {
  readonly format: FrameFormat;
  /** Bytes that may be kept back for it. */
  readonly maxBuffer: number;
  /** Passes on, or gives up whoever is too far behind. Must neither throw nor wait. */
  write(frames: Buffer): void;
  /** Whether so much waits to be read that nothing is to be written ahead of it. */
  readonly isFull: boolean;
  /** Resolves when what was written is on its way; to false when there is nobody any more. */
  drained(): Promise<boolean>;
}

interface Held {
  readonly frames: Buffer;
  readonly count: number;
}

/** What somebody wants of the stream, from when on: at once, held back for a moment, or behind what was missed. */
export class Subscription implements Watcher, Listener {
  readonly format: FrameFormat;
  /** Null: what comes is passed on. */
  private held: Held[] | null = null;
  private heldBytes = 0;
  private ended = false;
  private resuming = false;
  /** Messages told again. */
  private replayed = 0;
  /** While it is kept back: how to get at it when it became too much. */
  private instead: (() => Promise<void>) | null = null;
  private since: StreamPosition | null = null;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly feed: LiveFeed,
    private readonly replay: StreamReplay,
    private readonly outlet: Outlet,
    readonly principal: Principal,
    readonly filter: StreamFilter,
  ) {
    this.format = outlet.format;
    feed.enter(this);
  }

  /** Begins with what is told from now on. */
  begin(): void {
    this.feed.add(this);
  }

  /**
   * Begins with what is told from now on, but keeps it back for a moment.
   * @param failed hears why what was too much to be kept could not be read from the log.
   * @param since begins from there instead, and reads it from the log when the moment is over.
   */
  beginHeld(forMs: number, failed: (error: unknown) => void, since: StreamPosition | null = null): void {
    const from = since ?? this.feed.position;
    this.since = from;
    this.instead = () => this.resume(from, () => undefined).catch(failed);
    if (!since) this.hold();
    this.timer = setTimeout(() => this.release(), forMs);
  }

  /** Keeps back what comes until further notice, if it does so still. */
  stay(): void {
    clearTimeout(this.timer);
  }

  /** Whether it still tells what was missed. */
  get isResuming(): boolean {
    return this.resuming;
  }

  /** From where on it is kept back; null: it is not. */
  get heldSince(): StreamPosition | null {
    return this.instead && this.since;
  }

  /** Passes on what was kept back, and all that comes; not while it resumes, which ends by itself. */
  release(): void {
    if (this.resuming || this.ended) return;
    clearTimeout(this.timer);
    const { instead } = this;
    this.instead = null;
    if (instead && this.held === null) {
      void instead();
      return;
    }
    const held = this.held ?? [];
    this.held = null;
    for (const { frames, count } of held) this.send(frames, count);
  }

  /**
   * Tells what was told behind a position, and then, without a gap, what is told from now on. Far behind, only the log is
   * read; near, the stream is kept back meanwhile, and read from the log as well should it be too much.
   * @param caughtUp hears how many were told again, before the rest follows.
   * @throws DomainError when the log does not have it any more, or does not answer.
   */
  async resume(since: StreamPosition, caughtUp: (count: number) => void): Promise<void> {
    this.feed.counts.replays += 1;
    this.resuming = true;
    await this.feed.reach(since);
    for (let after = since; !this.isEnded();) {
      const until = this.feed.position;
      if (after.messagesUntil(until) < NEAR) this.hold();
      if (!(await this.replay.tell(after, until, this))) return;
      after = until;
      if (this.held === null || this.isEnded()) continue;
      caughtUp(this.replayed);
      this.resuming = false;
      this.release();
      return;
    }
  }

  tell(messages: readonly StreamMessage[]): void {
    if (this.ended) return;
    this.replayed += messages.length;
    this.feed.counts.sent += messages.length;
    this.feed.counts.replayed += messages.length;
    this.outlet.write(this.format.encode(messages));
  }

  hasRoom(): boolean {
    return !this.ended && !this.outlet.isFull;
  }

  async roomAgain(): Promise<boolean> {
    return (await this.outlet.drained()) && !this.isEnded();
  }

  /** Nothing follows any more but what was told before. */
  end(): void {
    this.feed.remove(this);
    this.ended = true;
    clearTimeout(this.timer);
    this.held = null;
    this.feed.leave(this);
  }

  send(frames: Buffer, count: number): void {
    if (this.ended) return;
    if (this.held === null) {
      this.feed.counts.sent += count;
      this.outlet.write(frames);
      return;
    }
    this.held.push({ frames, count });
    this.heldBytes += frames.length;
    // As much again may be on its way when it is passed on.
    if (this.heldBytes > this.outlet.maxBuffer / 2) this.overflow();
  }

  private isEnded(): boolean {
    return this.ended;
  }

  private hold(): void {
    this.held = [];
    this.heldBytes = 0;
    this.feed.add(this);
  }

  /** More than may be kept back: it is read from the log. */
  private overflow(): void {
    this.held = null;
    this.feed.remove(this);
  }
}
