import { Module, type DynamicModule, type OnApplicationBootstrap } from '@nestjs/common';
import type { Config } from '#platform';
import { EmbeddedBrokerAccess, HttpBrokerAccess, NoBrokerAccess } from './adapters/broker-access.adapters.js';
import { BrokerQuestionsController } from './adapters/broker-questions.controller.js';
import { DeviceStatusMqtt } from './adapters/device-status.mqtt.js';
import { DevicesController } from './adapters/devices.controller.js';
import { PgPresenceRepository } from './adapters/pg-presence.repository.js';
import { PresenceWatch } from './adapters/presence-watch.js';
import { ServiceNames } from './adapters/service-names.js';
import { StatusHistoryRetention } from './adapters/status-history-retention.js';
import { StatusHistoryController } from './adapters/status-history.controller.js';
import { TypeormDeviceRepository } from './adapters/typeorm-device.repository.js';
import { DeviceRegistry } from './application/device-registry.js';
import { PresenceHerald } from './application/presence-herald.js';
import { PresenceHistory } from './application/presence-history.js';
import { PresenceKeeper } from './application/presence-keeper.js';
import { RefusedLogins } from './application/refused-logins.js';
import { MosquittoBrokerAccess } from './adapters/mosquitto-broker-access.js';
import { BrokerAccess } from './ports/broker-access.js';
import { DeviceRepository } from './ports/device.repository.js';
import { PresenceRepository } from './ports/presence.repository.js';

const ACCESS = {
  embedded: EmbeddedBrokerAccess,
  'mosquitto-dynsec': MosquittoBrokerAccess,
  http: HttpBrokerAccess,
  none: NoBrokerAccess,
} as const;

/** Registry, presence and broker accounts of devices. */
@Module({})
export class DevicesModule implements OnApplicationBootstrap {
  constructor(
    private readonly watch: PresenceWatch,
    private readonly retention: StatusHistoryRetention,
  ) {}

  static with(config: Config): DynamicModule {
    return {
      module: DevicesModule,
      controllers: [
        DevicesController,
        StatusHistoryController,
        DeviceStatusMqtt,
        ...(config.brokerAccess === 'http' ? [BrokerQuestionsController] : []),
      ],
      providers: [
        { provide: DeviceRepository, useClass: TypeormDeviceRepository },
        { provide: BrokerAccess, useClass: ACCESS[config.brokerAccess] },
        { provide: PresenceRepository, useClass: PgPresenceRepository },
        DeviceRegistry,
        PresenceHerald,
        PresenceHistory,
        PresenceKeeper,
        PresenceWatch,
        RefusedLogins,
        ServiceNames,
        StatusHistoryRetention,
      ],
      exports: [DeviceRegistry],
    };
  }

  onApplicationBootstrap(): void {
    this.watch.start();
    this.retention.start();
  }
}
