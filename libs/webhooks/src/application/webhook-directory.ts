import { Injectable } from '@nestjs/common';
import type { DomainEvent } from '#kernel';
import { expandMetricTypes } from '#readings';
import { prepareFilter, tenantOf, wants, type PreparedFilter } from '../domain/webhook.js';
import type { NewDelivery } from '../ports/delivery.repository.js';
import { WebhookRepository, type ActiveWebhook } from '../ports/webhook.repository.js';

interface Entry {
  readonly webhookId: string;
  readonly filter: PreparedFilter;
}

/**
 * The active webhooks of all tenants, in memory: events that no webhook wants cost no look at the database. A trigger counts
 * their changes; {@link refresh} looks at that count.
 */
@Injectable()
export class WebhookDirectory {
  private version: string | undefined;
  private byTenant: ReadonlyMap<string, readonly Entry[]> = new Map();
  private byId: ReadonlyMap<string, ActiveWebhook> = new Map();
  private refreshing: Promise<void> = Promise.resolve();

  constructor(private readonly webhooks: WebhookRepository) {}

  /** False until it has been read for the first time: until then nobody knows who wants what. */
  get isKnown(): boolean {
    return this.version !== undefined;
  }

  /** How many are active. */
  get size(): number {
    return this.byId.size;
  }

  /**
   * Resolves when it holds what was in force when this was called, or later.
   * @throws what the database says.
   */
  refresh(): Promise<void> {
    // One after the other: an older answer never takes the place of a newer one.
    const refreshed = this.refreshing.then(() => this.load());
    this.refreshing = refreshed.catch(() => undefined);
    return refreshed;
  }

  /** An active webhook, as last read. */
  find(webhookId: string): ActiveWebhook | undefined {
    return this.byId.get(webhookId);
  }

  /** The events that webhooks want, in their order. */
  match(events: readonly DomainEvent[]): readonly NewDelivery[] {
    if (this.byTenant.size === 0) return [];
    const wanted: NewDelivery[] = [];
    for (const event of events) {
      const webhookIds = (this.byTenant.get(tenantOf(event)) ?? [])
        .filter(({ filter }) => wants(filter, event))
        .map(({ webhookId }) => webhookId);
      if (webhookIds.length > 0) wanted.push({ event, webhookIds });
    }
    return wanted;
  }

  private async load(): Promise<void> {
    if (this.version !== undefined && (await this.webhooks.version()) === this.version) return;
    const { version, webhooks } = await this.webhooks.active();
    const byTenant = new Map<string, Entry[]>();
    for (const { webhook } of webhooks) {
      const entries = byTenant.get(webhook.tenant) ?? [];
      entries.push({ webhookId: webhook.webhookId, filter: prepareFilter(webhook, expandMetricTypes) });
      byTenant.set(webhook.tenant, entries);
    }
    this.byTenant = byTenant;
    this.byId = new Map(webhooks.map((active) => [active.webhook.webhookId, active]));
    this.version = version;
  }
}
