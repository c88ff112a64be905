import type { Failure } from '../domain/delivery.js';
import type { DisabledReason, Webhook, WebhookChange } from '../domain/webhook.js';

/** A webhook that is sent to, and what its messages are signed with; null: stored under another WEBHOOKS_KEY. */
export interface ActiveWebhook {
  readonly webhook: Webhook;
  readonly key: Uint8Array | null;
}

/** A webhook, and its place among all. */
export interface ListedWebhook {
  readonly place: number;
  readonly webhook: Webhook;
}

/** What came of sending to a webhook lately, as one replica saw it. */
export interface WebhookNews {
  readonly webhookId: string;
  readonly lastSuccessAt: Date | null;
  readonly lastFailure: { readonly at: Date; readonly status: number | null; readonly code: Failure } | null;
}

/** How a webhook does. */
export interface WebhookStatus {
  readonly pending: number;
  readonly delivered: number;
  readonly dead: number;
  readonly lastSuccessAt: Date | null;
  readonly lastFailure: WebhookNews['lastFailure'];
}

/** Where webhooks are kept. Failures of the database are thrown as they come. */
export abstract class WebhookRepository {
  /** @returns false when the tenant has as many as it may. */
  abstract insert(webhook: Webhook, key: Uint8Array, max: number): Promise<boolean>;
  abstract find(webhookId: string, tenant: string): Promise<Webhook | null>;
  /** A tenant's, in the order of their places, behind the one given. */
  abstract list(tenant: string, after: number | null, limit: number): Promise<readonly ListedWebhook[]>;
  /** @returns it as it is now; null: there is none. */
  abstract change(
    webhookId: string,
    tenant: string,
    change: WebhookChange,
    key: Uint8Array | null,
  ): Promise<Webhook | null>;
  /** With all that is on its way to it. @returns whether there was one. */
  abstract remove(webhookId: string, tenant: string): Promise<boolean>;
  abstract disable(webhookId: string, reason: DisabledReason): Promise<void>;
  abstract status(webhookId: string): Promise<WebhookStatus>;
  abstract note(news: readonly WebhookNews[]): Promise<void>;
  /** Counts the changes of webhooks. */
  abstract version(): Promise<string>;
  /** All that are active, and the version they are of. */
  abstract active(): Promise<{ readonly version: string; readonly webhooks: readonly ActiveWebhook[] }>;
}
