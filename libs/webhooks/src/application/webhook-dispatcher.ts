import { Injectable, Logger } from '@nestjs/common';
import { BackgroundWork, Clock } from '#kernel';
import { judge, type Attempt, type RetryBounds } from '../domain/delivery.js';
import {
  DeliveryRepository,
  type ClaimedDelivery,
  type KeepingBounds,
} from '../ports/delivery.repository.js';
import { WebhookRepository, type WebhookNews } from '../ports/webhook.repository.js';
import { WebhookSender } from '../ports/webhook-sender.js';
import { WebhookDirectory } from './webhook-directory.js';
import { WebhookLine, type LaneWork } from './webhook-line.js';

/** Requests to one webhook at once, from one replica. */
const CONCURRENCY = 8;
/** Lanes claimed together: what waits here waits for no further look at the database. */
const LANES_A_CLAIM = 32;
const SWEEP_EVERY_MS = 10_000;

/** How webhooks are served. */
export abstract class DispatchBounds {
  abstract readonly retry: RetryBounds;
  abstract readonly keeping: KeepingBounds;
  /** How long an attempt may take. */
  abstract readonly timeoutMs: number;
  /** How long a claim holds. */
  abstract readonly leaseMs: number;
}

/** What has been sent since the start. */
export interface WebhookTotals {
  readonly delivered: number;
  /** Attempts, not deliveries. */
  readonly failed: number;
  readonly dead: number;
}

interface Claim {
  readonly id: string;
  readonly webhookId: string;
  /** By the clock of `performance`. */
  lapsesAt: number;
  /** What is not done with, and not lost. */
  readonly open: Set<number>;
}

/**
 * Sends what is queued for webhooks. Deliveries of one webhook for one device go out in their order: one that failed holds up
 * those behind it until it is delivered or given up, and no other device's.
 *
 * A delivery is taken up by a claim, sent, and recorded; no lock is held while the receiver answers. Whoever dies in between
 * leaves a claim that lapses, and the delivery goes out again under its own id.
 */
@Injectable()
export class WebhookDispatcher {
  private readonly logger = new Logger('Webhooks');
  private readonly work = new BackgroundWork((problem) => this.logger.warn(`Webhooks wait: ${problem}`));
  private readonly lines = new Map<string, WebhookLine>();
  private readonly claims = new Map<string, Claim>();
  private readonly news = new Map<string, WebhookNews>();
  private readonly counts = { delivered: 0, failed: 0, dead: 0 };
  private pending = 0;
  private sweepDue = 0;

  constructor(
    private readonly directory: WebhookDirectory,
    private readonly webhooks: WebhookRepository,
    private readonly deliveries: DeliveryRepository,
    private readonly sender: WebhookSender,
    private readonly bounds: DispatchBounds,
    private readonly clock: Clock,
  ) {}

  get totals(): WebhookTotals {
    return this.counts;
  }

  /** Deliveries that wait, in all queues, as last looked at. */
  get backlog(): number {
    return this.pending;
  }

  /** Something was queued for these webhooks. */
  wake(webhookIds: Iterable<string>): void {
    if (this.work.isStopping) return;
    for (const webhookId of webhookIds) {
      if (!this.directory.find(webhookId)) continue;
      let line = this.lines.get(webhookId);
      if (!line) {
        line = new WebhookLine(CONCURRENCY, () => this.claim(webhookId));
        this.lines.set(webhookId, line);
      }
      line.wake();
    }
  }

  /** What is due from time to time: claims are kept, retries begun, queues kept within their bounds. Never rejects. */
  async tidy(): Promise<void> {
    await this.work.attempt(() => this.renew());
    await this.work.attempt(() => this.directory.refresh());
    await this.work.attempt(() => this.tell());
    await this.work.attempt(() => this.look());
    for (const [webhookId, line] of this.lines)
      if (line.isIdle && !this.directory.find(webhookId)) this.lines.delete(webhookId);
    if (performance.now() < this.sweepDue) return;
    this.sweepDue = performance.now() + SWEEP_EVERY_MS;
    await this.work.attempt(async () => {
      this.counts.dead += await this.deliveries.sweep(this.bounds.keeping);
    });
  }

  /** Begins nothing more, and resolves when nothing is being sent. */
  async drain(): Promise<void> {
    this.work.stop();
    await Promise.all([...this.lines.values()].map((line) => line.close()));
    await this.work.attempt(() => this.tell());
    this.sender.close();
  }

  private async renew(): Promise<void> {
    const held = [...this.claims.values()];
    if (held.length === 0) return;
    const lapsesAt = performance.now() + this.bounds.leaseMs;
    const asked = held.map(({ open }) => [...open]);
    const kept = new Set(
      await this.deliveries.renew(
        held.map(({ webhookId }) => webhookId),
        held.map(({ id }) => id),
        asked.flat(),
      ),
    );
    for (const [index, claim] of held.entries()) {
      claim.lapsesAt = lapsesAt;
      for (const id of asked[index] ?? []) if (!kept.has(id)) claim.open.delete(id);
    }
  }

  private async tell(): Promise<void> {
    if (this.news.size === 0) return;
    const news = [...this.news.values()];
    this.news.clear();
    await this.webhooks.note(news);
  }

  private async look(): Promise<void> {
    const backlogs = await this.deliveries.backlogs();
    this.pending = [...backlogs.values()].reduce((sum, count) => sum + count, 0);
    const { maxPending } = this.bounds.keeping;
    for (const [webhookId, count] of backlogs) {
      if (count > maxPending) this.counts.dead += await this.deliveries.giveUpOldest(webhookId, maxPending);
    }
    this.wake(backlogs.keys());
    this.work.wentWell();
  }

  private async claim(webhookId: string): Promise<readonly LaneWork[]> {
    const claim: Claim = {
      id: crypto.randomUUID(),
      webhookId,
      lapsesAt: performance.now() + this.bounds.leaseMs,
      open: new Set(),
    };
    const lanes = new Map<string, ClaimedDelivery[]>();
    await this.work.attempt(async () => {
      for (const delivery of await this.deliveries.claim(claim.id, webhookId, LANES_A_CLAIM)) {
        claim.open.add(delivery.id);
        const lane = lanes.get(delivery.lane);
        if (lane) lane.push(delivery);
        else lanes.set(delivery.lane, [delivery]);
      }
    });
    if (lanes.size === 0) return [];
    this.claims.set(claim.id, claim);
    return [...lanes.values()].map((lane) => async () => {
      await this.work.attempt(() => this.sendLane(webhookId, claim, lane));
      for (const { id } of lane) claim.open.delete(id);
      if (claim.open.size === 0) this.claims.delete(claim.id);
    });
  }

  private async sendLane(webhookId: string, claim: Claim, lane: readonly ClaimedDelivery[]): Promise<void> {
    for (const [index, delivery] of lane.entries()) {
      const active = this.directory.find(webhookId);
      // Whoever stood still for so long may not be the only one to send it any more.
      const isOurs =
        claim.open.has(delivery.id) && performance.now() + this.bounds.timeoutMs < claim.lapsesAt;
      if (!active || !isOurs || this.work.isStopping) {
        await this.deliveries.release(claim.id, idsOf(lane.slice(index)));
        return;
      }
      const { key, webhook } = active;
      const attempt: Attempt =
        key === null
          ? { taken: false, status: null, failure: 'secret_unreadable' }
          : await this.sender.send({
              url: webhook.url,
              key,
              messageId: delivery.messageId,
              body: delivery.body ?? (await this.deliveries.body(delivery.id)),
            });
      const behind = idsOf(lane.slice(index + 1));
      const goesOn = await this.record(webhookId, claim, delivery, behind, attempt);
      claim.open.delete(delivery.id);
      if (!goesOn) return;
    }
  }

  /** @returns whether the next of the lane may be sent; if not, those behind have been given back. */
  private async record(
    webhookId: string,
    claim: Claim,
    delivery: ClaimedDelivery,
    behind: readonly number[],
    attempt: Attempt,
  ): Promise<boolean> {
    const made = { attempts: delivery.attempts + 1, ageMs: delivery.ageMs };
    const verdict = judge(attempt, made, this.bounds.retry, Math.random());
    this.remember(webhookId, attempt);
    const failure = attempt.taken ? null : attempt.failure;
    if (failure !== null) this.counts.failed += 1;
    if (verdict.state === 'pending') {
      const { delayMs } = verdict;
      await this.work.insist(() =>
        this.deliveries.postpone(
          claim.id,
          delivery.id,
          behind,
          delayMs,
          attempt.status,
          failure ?? 'http_error',
        ),
      );
      return false;
    }
    const { state } = verdict;
    const held = await this.work.insist(() =>
      this.deliveries.finish(claim.id, delivery.id, state, attempt.status, failure),
    );
    if (held) this.counts[state] += 1;
    const disables = verdict.state === 'dead' && verdict.disables;
    if (held && !disables) return true;
    if (disables) {
      await this.work.insist(() => this.webhooks.disable(webhookId, 'gone'));
      await this.work.insist(() => this.directory.refresh());
    }
    await this.deliveries.release(claim.id, behind);
    return false;
  }

  private remember(webhookId: string, attempt: Attempt): void {
    const at = this.clock.now();
    const known = this.news.get(webhookId) ?? { webhookId, lastSuccessAt: null, lastFailure: null };
    this.news.set(
      webhookId,
      attempt.taken
        ? { ...known, lastSuccessAt: at }
        : { ...known, lastFailure: { at, status: attempt.status, code: attempt.failure } },
    );
  }
}

function idsOf(deliveries: readonly ClaimedDelivery[]): readonly number[] {
  return deliveries.map(({ id }) => id);
}
