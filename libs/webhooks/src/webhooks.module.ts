import { Module, type DynamicModule, type OnApplicationBootstrap } from '@nestjs/common';
import { Config, Database, MqttTransport } from '#platform';
import { AddressRules } from './adapters/address-rules.js';
import { HttpWebhookSender } from './adapters/http-webhook-sender.js';
import { PgDeliveryRepository } from './adapters/pg-delivery.repository.js';
import { PgWebhookRepository } from './adapters/pg-webhook.repository.js';
import { SecretBox } from './adapters/secret-box.js';
import { WebhooksController } from './adapters/webhooks.controller.js';
import { DeskRules, WebhookDesk } from './application/webhook-desk.js';
import { WebhookDirectory } from './application/webhook-directory.js';
import { DispatchBounds, WebhookDispatcher } from './application/webhook-dispatcher.js';
import { WebhookOutbox } from './application/webhook-outbox.js';
import { DeliveryRepository } from './ports/delivery.repository.js';
import { WebhookRepository } from './ports/webhook.repository.js';
import { WebhookSender } from './ports/webhook-sender.js';

const TIDY_EVERY_MS = 1_000;
/** A claim outlasts an attempt, and a database that is slow to renew it. */
const LEASE_BEYOND_ATTEMPT_MS = 5_000;

/** Events out, by HTTP. */
@Module({})
export class WebhooksModule implements OnApplicationBootstrap {
  private timer: NodeJS.Timeout | undefined;
  private tidying = false;

  constructor(
    private readonly dispatcher: WebhookDispatcher,
    transport: MqttTransport,
  ) {
    transport.onDrain(() => {
      clearInterval(this.timer);
      return dispatcher.drain();
    });
  }

  static with({ webhooks }: Config): DynamicModule {
    const leaseMs = webhooks.timeout + LEASE_BEYOND_ATTEMPT_MS;
    const bounds: DispatchBounds = {
      retry: {
        maxAttempts: webhooks.maxAttempts,
        maxAgeMs: webhooks.maxAge,
        baseMs: webhooks.retryBase,
      },
      keeping: {
        maxPending: webhooks.maxPending,
        maxKept: webhooks.maxKept,
        maxAgeMs: webhooks.maxAge,
        retentionMs: webhooks.retention,
      },
      timeoutMs: webhooks.timeout,
      leaseMs,
    };
    const rules: DeskRules = { allowHttp: webhooks.allowHttp, maxPending: webhooks.maxPending };
    return {
      module: WebhooksModule,
      controllers: [WebhooksController],
      providers: [
        { provide: DispatchBounds, useValue: bounds },
        { provide: DeskRules, useValue: rules },
        {
          provide: WebhookRepository,
          inject: [Database],
          useFactory: (database: Database) => new PgWebhookRepository(database, new SecretBox(webhooks.key)),
        },
        {
          provide: DeliveryRepository,
          inject: [Database],
          useFactory: (database: Database) => new PgDeliveryRepository(database, leaseMs),
        },
        {
          provide: WebhookSender,
          useFactory: () =>
            new HttpWebhookSender(new AddressRules(webhooks.allowedNetworks), webhooks.timeout),
        },
        WebhookDirectory,
        WebhookDispatcher,
        WebhookOutbox,
        WebhookDesk,
      ],
      exports: [WebhookDispatcher, WebhookDirectory],
    };
  }

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => void this.tidy(), TIDY_EVERY_MS);
  }

  private async tidy(): Promise<void> {
    if (this.tidying) return;
    this.tidying = true;
    await this.dispatcher.tidy();
    this.tidying = false;
  }
}
