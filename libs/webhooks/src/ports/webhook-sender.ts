import type { Attempt } from '../domain/delivery.js';

/** A message to a receiver. */
export interface OutgoingWebhook {
  readonly url: string;
  readonly key: Uint8Array;
  readonly messageId: string;
  readonly body: string;
}

/** The way to receivers. */
export abstract class WebhookSender {
  /** Whether the host of an address is itself an address that nothing may be sent to. A name is none. */
  abstract refuses(url: string): boolean;
  /** Sends once. Never rejects. */
  abstract send(message: OutgoingWebhook): Promise<Attempt>;
  /** Closes connections that nobody uses. */
  abstract close(): void;
}
