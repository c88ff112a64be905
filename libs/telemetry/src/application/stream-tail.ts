import { setTimeout as sleep } from 'node:timers/promises';
import {
  Injectable,
  Logger,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { DomainError, type DomainEvent } from '#kernel';
import { StreamPosition } from '../domain/stream-position.js';
import { StreamLog, type Stretch } from '../ports/stream-log.js';
import { StreamPeers, type Peer } from '../ports/stream-peers.js';
import { LiveFeed } from './live-feed.js';
import { StreamReplay, type Wants } from './stream-replay.js';

/** The others are looked at so often also without news: one may have died, or its news been lost. */
const LOOK_EVERY_MS = 1_000;
/** What is told within so long is said to the others together. */
const ANNOUNCE_EVERY_MS = 10;
/** How long the start waits for the others to say how far they are. */
const INTRODUCED_WITHIN_MS = 3_000;
/** What is still to be said when the service stops has this long. */
const STOP_WITHIN_MS = 1_000;
/** After so long without a message of its own, another replica may have had the session meanwhile. */
const SILENCE_MS = 250;
/** Local events do not wait longer for what others have told before. */
const BEHIND_OTHERS_MS = 3_000;
/** A client that comes from another replica waits so long until this one is as far. */
const CATCH_UP_WITHIN_MS = 10_000;

/**
 * Tells the events of the other replicas here, as far as they have told them there; of one that has died, all that it had
 * stored. And says to them how far this one has told its own.
 */
@Injectable()
export class StreamTail implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('StreamTail');
  private readonly stopping = new AbortController();
  /** Runs that are over, of which not everything was told here yet. */
  private readonly ended = new Set<number>();
  /** Runs that are over, and of which everything was told here. */
  private readonly over = new Set<number>();
  /** Others that live. */
  private others = 0;
  private rounds: Promise<void> = Promise.resolve();
  private waiting: Promise<void> | null = null;
  private toBury = false;
  private timer: NodeJS.Timeout | undefined;
  private announcing: Promise<void> | null = null;
  private unannounced = false;
  /** What the others were told would not be true any more after a while. */
  private announced = false;
  private lastOwn = 0;
  /** The positions in other runs lie between rows of the log. */
  private isWhole = true;
  private lastProblem = '';

  constructor(
    private readonly feed: LiveFeed,
    private readonly peers: StreamPeers,
    private readonly log: StreamLog,
    private readonly replay: StreamReplay,
  ) {}

  onApplicationBootstrap(): void {
    void this.open();
  }

  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    this.stopping.abort();
    await Promise.race([this.announcing, sleep(STOP_WITHIN_MS, undefined, { ref: false })]);
  }

  private async open(): Promise<void> {
    await this.peers.joined;
    const others = await this.introduced();
    if (this.stopping.signal.aborted) return;
    this.feed.open(others, {
      gate: (events) => this.gate(events),
      told: () => this.announceSoon(),
      entered: () => this.lookSoon(),
      reach: (position) => this.reach(position),
    });
    this.peers.onNews(() => {
      // Without watchers it is enough to look now and then.
      if (this.feed.size > 0 || this.others === 0) void this.look(LOOK_EVERY_MS, false);
    });
    this.timer = setInterval(() => this.lookSoon(), LOOK_EVERY_MS);
    this.timer.unref();
    this.announceSoon();
    this.lookSoon();
  }

  /** How far the others are that live; they say so when they see this one. */
  private async introduced(): Promise<readonly StreamPosition[]> {
    const { signal } = this.stopping;
    const deadline = Date.now() + INTRODUCED_WITHIN_MS;
    while (!signal.aborted) {
      try {
        const others = (await this.peers.look([], true)).filter(({ ended }) => !ended);
        this.others = others.length;
        const untold = others.filter(({ told }) => !told);
        if (untold.length === 0 || Date.now() > deadline)
          return await Promise.all(others.map(async ({ epoch, told }) => told ?? this.peers.endOf(epoch)));
      } catch (error) {
        this.complain(error);
      }
      await sleep(20, undefined, { signal, ref: false }).catch(() => undefined);
    }
    return [];
  }

  /**
   * Resolves when everything was told here that a position has seen elsewhere.
   * @throws DomainError unavailable/replica_behind
   */
  private async reach(position: StreamPosition): Promise<void> {
    const has = (): boolean => this.covers(position);
    if (has() || (await this.lookUntil(has, CATCH_UP_WITHIN_MS))) return;
    throw new DomainError('unavailable', 'replica_behind', 'This replica has not come as far as since.');
  }

  private covers(position: StreamPosition): boolean {
    const { positions } = this.feed;
    const newest = Math.max(...positions.keys());
    const parts = position.parts;
    for (const [epoch, part] of parts) {
      const reached = positions.get(epoch);
      if (reached ? !reached.covers(part) && !this.over.has(epoch) : epoch > newest) return false;
    }
    // Where it came from, these were over and told.
    const newestSeen = Math.max(...parts.keys());
    return [...positions.keys()].every(
      (epoch) => parts.has(epoch) || epoch > newestSeen || this.over.has(epoch),
    );
  }

  private gate(events: readonly DomainEvent[]): (() => Promise<void>) | null {
    const last = events.findLast(({ logged }) => logged)?.logged;
    if (!last) return null;
    const now = performance.now();
    const wasSilent = now - this.lastOwn > SILENCE_MS;
    this.lastOwn = now;
    const own = this.log.epoch;
    const elsewhere = events.filter(({ logged }) => logged && logged.epoch !== own);
    if (elsewhere.length > 0) {
      const told = (): boolean =>
        elsewhere.every(({ logged }) => {
          const reached = logged && this.feed.positions.get(logged.epoch);
          return !reached || !reached.isBefore(logged.place, logged.index) || this.over.has(logged.epoch);
        });
      return async () => {
        if (!told()) await this.lookUntil(told, BEHIND_OTHERS_MS);
      };
    }
    return wasSilent && this.others > 0 ? () => this.look(BEHIND_OTHERS_MS, true) : null;
  }

  private lookSoon(): void {
    void this.look(LOOK_EVERY_MS, true);
  }

  private async lookUntil(condition: () => boolean, withinMs: number): Promise<boolean> {
    const deadline = Date.now() + withinMs;
    while (!this.stopping.signal.aborted) {
      await this.look(deadline - Date.now(), true);
      if (condition()) return true;
      if (Date.now() > deadline) return false;
      await sleep(ANNOUNCE_EVERY_MS, undefined, { ref: false });
    }
    return false;
  }

  /**
   * Looks at the others, from now on; resolves when it is done, or has taken too long.
   * @param bury whether to find out which have died.
   */
  private async look(withinMs: number, bury: boolean): Promise<void> {
    this.toBury ||= bury;
    if (!this.waiting) {
      this.waiting = this.rounds.then(() => {
        this.waiting = null;
        return this.round();
      });
      this.rounds = this.waiting;
    }
    await Promise.race([this.waiting, sleep(Math.max(0, withinMs), undefined, { ref: false })]);
  }

  private async round(): Promise<void> {
    if (this.stopping.signal.aborted) return;
    try {
      this.feed.beginRun();
      const { toBury } = this;
      this.toBury = false;
      await this.follow(await this.peers.look([...this.feed.positions.keys()], toBury));
      // What was said last may be lost.
      if (this.lastProblem !== '') this.announceSoon();
      this.lastProblem = '';
    } catch (error) {
      this.isWhole = false;
      this.complain(error);
    }
  }

  private async follow(peers: readonly Peer[]): Promise<void> {
    const { positions } = this.feed;
    const before = this.others;
    this.others = peers.filter(({ ended }) => !ended).length;
    if (this.others > 0 !== before > 0) this.announceSoon();
    const fresh = peers.filter(({ epoch }) => !positions.has(epoch) && epoch !== this.log.epoch);
    this.feed.reachIn(fresh.map(({ epoch }) => StreamPosition.startOf(epoch)));
    for (const { epoch, ended } of peers) if (ended && !this.over.has(epoch)) this.ended.add(epoch);
    if (this.feed.size > 0) await this.tell(peers);
    else await this.note(peers);
    for (const epoch of positions.keys()) if (this.over.has(epoch)) this.feed.forget(epoch);
  }

  /** Nobody wants to hear of it. */
  private async note(peers: readonly Peer[]): Promise<void> {
    this.feed.reachIn(
      peers.flatMap(({ epoch, told }) => {
        const reached = this.feed.positions.get(epoch);
        return told && reached && !reached.covers(told) ? [told] : [];
      }),
    );
    for (const epoch of this.ended) {
      this.feed.reachIn([await this.peers.endOf(epoch)]);
      this.end(epoch);
    }
  }

  private async tell(peers: readonly Peer[]): Promise<void> {
    const { positions, audience } = this.feed;
    const stretches: Stretch[] = [];
    for (const { epoch, told, ended } of peers) {
      const after = positions.get(epoch);
      if (!after || this.over.has(epoch)) continue;
      const until = ended ? null : (told ?? after);
      stretches.push({ after, until, begunAt: 0, isWhole: this.isWhole });
    }
    const wants: Wants = { concerns: ({ device }) => audience.concerns(device), hears: () => true };
    for await (const { epoch, told, reached } of this.replay.steps(stretches, wants)) {
      if (reached) this.feed.tellOf(told, reached);
      else this.end(epoch);
    }
    this.isWhole = true;
  }

  private end(epoch: number): void {
    this.ended.delete(epoch);
    this.over.add(epoch);
  }

  private announceSoon(): void {
    if (this.others === 0 && !this.announced) return;
    this.unannounced = true;
    this.announcing ??= this.announce().finally(() => {
      this.announcing = null;
    });
  }

  private async announce(): Promise<void> {
    while (this.unannounced) {
      this.unannounced = false;
      const isAlone = this.others === 0;
      const own = this.feed.positions.get(this.log.epoch) ?? null;
      try {
        // What was told may still be on its way into the log.
        await this.log.settled();
        await this.peers.announce(isAlone ? null : own);
        this.announced = !isAlone;
      } catch (error) {
        this.unannounced = true;
        this.complain(error);
        if (this.stopping.signal.aborted) return;
        await sleep(LOOK_EVERY_MS, undefined, { ref: false, signal: this.stopping.signal }).catch(
          () => undefined,
        );
      }
      await sleep(ANNOUNCE_EVERY_MS, undefined, { ref: false });
    }
  }

  private complain(error: unknown): void {
    const problem = error instanceof Error ? error.message : 'unknown error';
    if (problem !== this.lastProblem && !this.stopping.signal.aborted)
      this.logger.warn(`The other replicas are not heard (${problem}); trying again`);
    this.lastProblem = problem;
  }
}
