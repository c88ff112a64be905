import { randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Clock, DomainError, type Principal } from '#kernel';
import type { Delivery, DeliveryState } from '../domain/delivery.js';
import { readReceiverUrl } from '../domain/receiver-url.js';
import { formatSecret, parseSecret } from '../domain/signing-secret.js';
import {
  MAX_WEBHOOKS,
  unusable,
  webhookNotFound,
  type Webhook,
  type WebhookChange,
  type WebhookFilter,
} from '../domain/webhook.js';
import { DeliveryRepository, type Replay, type ReplaySelection } from '../ports/delivery.repository.js';
import { WebhookRepository, type ListedWebhook, type WebhookStatus } from '../ports/webhook.repository.js';
import { WebhookSender } from '../ports/webhook-sender.js';
import { WebhookDirectory } from './webhook-directory.js';
import { WebhookDispatcher } from './webhook-dispatcher.js';

/** Bytes of a secret that the service makes. */
const SECRET_BYTES = 32;

/** What the desk goes by. */
export abstract class DeskRules {
  abstract readonly allowHttp: boolean;
  abstract readonly maxPending: number;
}

/** A webhook as it is asked for. */
export interface WebhookOrder extends WebhookFilter {
  readonly url: string;
  readonly active: boolean;
  /** Null: one is to be made. */
  readonly secret: string | null;
}

/**
 * Where administrators see to the webhooks of their tenant.
 * Every method throws DomainError forbidden/insufficient_scope for a token confined to one patient, and those about one
 * webhook not_found/webhook_not_found.
 */
@Injectable()
export class WebhookDesk {
  constructor(
    private readonly webhooks: WebhookRepository,
    private readonly deliveries: DeliveryRepository,
    private readonly directory: WebhookDirectory,
    private readonly dispatcher: WebhookDispatcher,
    private readonly sender: WebhookSender,
    private readonly rules: DeskRules,
    private readonly clock: Clock,
  ) {}

  /**
   * Makes a webhook. Its secret is shown here and never again.
   * @throws DomainError invalid/validation_failed, conflict/too_many_webhooks
   */
  async create(order: WebhookOrder, caller: Principal): Promise<{ webhook: Webhook; secret: string }> {
    requireUnconfined(caller);
    const { secret, ...wanted } = order;
    const key = secret === null ? randomBytes(SECRET_BYTES) : parseSecret(secret);
    const now = this.clock.now();
    const webhook: Webhook = {
      ...wanted,
      webhookId: crypto.randomUUID(),
      tenant: caller.tenant,
      url: this.receiverOf(order.url),
      disabledReason: null,
      createdBy: caller.subject,
      createdAt: now,
      updatedAt: now,
    };
    if (!(await this.webhooks.insert(webhook, key, MAX_WEBHOOKS))) {
      throw new DomainError(
        'conflict',
        'too_many_webhooks',
        `A tenant has no more than ${MAX_WEBHOOKS} webhooks.`,
      );
    }
    await this.directory.refresh();
    return { webhook, secret: formatSecret(key) };
  }

  /** A page of them, in the order in which they were made. */
  async list(after: number | null, limit: number, caller: Principal): Promise<readonly ListedWebhook[]> {
    requireUnconfined(caller);
    return this.webhooks.list(caller.tenant, after, limit);
  }

  async get(webhookId: string, caller: Principal): Promise<{ webhook: Webhook; status: WebhookStatus }> {
    const webhook = await this.require(webhookId, caller);
    return { webhook, status: await this.webhooks.status(webhookId) };
  }

  /** @param secret a new one; undefined: it stays. @throws DomainError invalid/validation_failed */
  async change(
    webhookId: string,
    change: WebhookChange,
    secret: string | undefined,
    caller: Principal,
  ): Promise<Webhook> {
    requireUnconfined(caller);
    const checked = change.url === undefined ? change : { ...change, url: this.receiverOf(change.url) };
    const key = secret === undefined ? null : parseSecret(secret);
    const webhook = await this.webhooks.change(webhookId, caller.tenant, checked, key);
    if (!webhook) throw webhookNotFound();
    await this.directory.refresh();
    this.dispatcher.wake([webhookId]);
    return webhook;
  }

  /** What is on its way to it is forgotten. */
  async remove(webhookId: string, caller: Principal): Promise<void> {
    requireUnconfined(caller);
    if (!(await this.webhooks.remove(webhookId, caller.tenant))) throw webhookNotFound();
    await this.directory.refresh();
  }

  /** A page of what was, is and could not be sent, newest first. */
  async deliveriesOf(
    webhookId: string,
    states: readonly DeliveryState[],
    before: number | null,
    limit: number,
    caller: Principal,
  ): Promise<readonly Delivery[]> {
    await this.require(webhookId, caller);
    return this.deliveries.list(webhookId, states, before, limit);
  }

  /**
   * Queues finished deliveries again, oldest first, as many as the queue has room for.
   * @param after the id of the message behind which it begins; null: at the first.
   * @throws DomainError invalid/validation_failed for a message that is not there, conflict/backlog_full
   */
  async replay(
    webhookId: string,
    selection: Omit<ReplaySelection, 'afterId'>,
    after: string | null,
    caller: Principal,
  ): Promise<Replay> {
    await this.require(webhookId, caller);
    const afterId = after === null ? null : await this.deliveries.idOf(webhookId, after);
    if (after !== null && afterId === null)
      throw unusable('cursor', 'is no message of this webhook, or none that is still kept');
    const replay = await this.deliveries.replay(webhookId, { ...selection, afterId }, this.rules.maxPending);
    if (replay.queued === 0 && replay.remaining > 0) {
      throw new DomainError(
        'conflict',
        'backlog_full',
        'As much is pending as may be: queue more when that is delivered.',
      );
    }
    this.dispatcher.wake([webhookId]);
    return replay;
  }

  private async require(webhookId: string, caller: Principal): Promise<Webhook> {
    requireUnconfined(caller);
    const webhook = await this.webhooks.find(webhookId, caller.tenant);
    if (!webhook) throw webhookNotFound();
    return webhook;
  }

  private receiverOf(text: string): string {
    const url = readReceiverUrl(text, this.rules.allowHttp);
    if (this.sender.refuses(url))
      throw unusable('url', 'must not name a private or otherwise special address');
    return url;
  }
}

function requireUnconfined(caller: Principal): void {
  if (caller.patientId === null) return;
  throw new DomainError(
    'forbidden',
    'insufficient_scope',
    'A token confined to one patient has no access to webhooks.',
  );
}
