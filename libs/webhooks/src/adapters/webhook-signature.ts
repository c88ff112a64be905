import { createHmac } from 'node:crypto';

/**
 * The headers that sign a message: Standard Webhooks 1.0.0, "Signature scheme" and "Webhook headers".
 * @param seconds when it is sent, since 1970: a receiver refuses what is old, so that nobody can send it again later.
 */
export function signatureHeaders(
  key: Uint8Array,
  messageId: string,
  seconds: number,
  body: string,
): Readonly<Record<string, string>> {
  const digest = createHmac('sha256', key).update(`${messageId}.${seconds}.${body}`).digest('base64');
  return {
    'webhook-id': messageId,
    'webhook-timestamp': String(seconds),
    'webhook-signature': `v1,${digest}`,
  };
}
