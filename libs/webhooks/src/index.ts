export { WebhookDirectory } from './application/webhook-directory.js';
export { WebhookDispatcher } from './application/webhook-dispatcher.js';
export { WebhooksModule } from './webhooks.module.js';
