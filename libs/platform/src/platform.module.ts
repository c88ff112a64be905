import { Global, Logger, Module, type DynamicModule } from '@nestjs/common';
import { APP_GUARD, APP_INTERCEPTOR } from '@nestjs/core';
import { Clock, EventBus, Quarantine, SystemClock, UnitOfWork } from '#kernel';
import { AuthGuard } from './auth/auth.guard.js';
import { TokenVerifier } from './auth/token-verifier.js';
import { Config } from './config/config.js';
import { errorCode } from './database/database-errors.js';
import { Database } from './database/database.js';
import { SessionLease } from './database/session-lease.js';
import { PgUnitOfWork } from './database/pg-unit-of-work.js';
import { EmbeddedBroker } from './embedded/embedded-broker.js';
import { EventRelay } from './events/event-relay.js';
import { MqttEventPublisher } from './events/mqtt-event-publisher.js';
import { UndeclaredInput } from './http/undeclared-input.js';
import { Inbox } from './mqtt/inbox.js';
import { MqttConsumer } from './mqtt/mqtt-consumer.js';
import { MqttPublisher } from './mqtt/mqtt-publisher.js';
import { MqttTransport } from './mqtt/mqtt-transport.js';
import { SharedGroup } from './mqtt/shared-group.js';
import { PgQuarantine } from './quarantine/pg-quarantine.js';

/** What is running before the modules are wired. */
export interface PlatformParts {
  readonly config: Config;
  readonly database: Database;
  /** Null: the broker is managed elsewhere. */
  readonly broker: EmbeddedBroker | null;
}

/** Technology shared by all modules, available everywhere. */
@Global()
@Module({})
export class PlatformModule {
  static with({ config, database, broker }: PlatformParts): DynamicModule {
    return {
      module: PlatformModule,
      providers: [
        { provide: Config, useValue: config },
        { provide: Database, useValue: database },
        { provide: EmbeddedBroker, useValue: broker },
        { provide: TokenVerifier, useFactory: () => new TokenVerifier(config) },
        { provide: Clock, useClass: SystemClock },
        { provide: UnitOfWork, useClass: PgUnitOfWork },
        { provide: Quarantine, useClass: PgQuarantine },
        { provide: APP_GUARD, useClass: AuthGuard },
        { provide: APP_INTERCEPTOR, useClass: UndeclaredInput },
        Inbox,
        {
          provide: SessionLease,
          useFactory: () =>
            new SessionLease(
              config.mqtt.embedded ? null : database.url,
              config.mqtt.clientId,
              database.start(),
              database.abandoned,
            ),
        },
        SharedGroup,
        MqttConsumer,
        MqttPublisher,
        MqttTransport,
        MqttEventPublisher,
        EventRelay,
        {
          provide: EventBus,
          inject: [MqttEventPublisher, EventRelay],
          useFactory: (publisher: MqttEventPublisher, relay: EventRelay) => {
            const logger = new Logger('Events');
            const bus = new EventBus((error) =>
              logger.warn(`Events were not handed over (${errorCode(error) ?? String(error)})`),
            );
            publisher.attach(bus);
            relay.attach(bus);
            return bus;
          },
        },
      ],
      exports: [
        Config,
        Database,
        EmbeddedBroker,
        TokenVerifier,
        Clock,
        UnitOfWork,
        Quarantine,
        Inbox,
        MqttConsumer,
        MqttPublisher,
        MqttTransport,
        SharedGroup,
        EventRelay,
        EventBus,
      ],
    };
  }
}
