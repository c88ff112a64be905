import { Module, type DynamicModule, type OnApplicationBootstrap } from '@nestjs/common';
import type { Config } from '#platform';
import { EmbeddedBrokerAccess, HttpBrokerAccess, NoBrokerAccess } from './adapters/broker-access.adapters.js';
import { BrokerQuestionsController } from './adapters/broker-questions.controller.js';
import { DeviceStatusMqtt } from './adapters/device-status.mqtt.js';
import { DevicesController } from './adapters/devices.controller.js';
import { PresenceWatch } from './adapters/presence-watch.js';
import { ServiceNames } from './adapters/service-names.js';
import { TypeormDeviceRepository } from './adapters/typeorm-device.repository.js';
import { DeviceRegistry } from './application/device-registry.js';
import { PresenceKeeper } from './application/presence-keeper.js';
import { MosquittoBrokerAccess } from './adapters/mosquitto-broker-access.js';
import { BrokerAccess } from './ports/broker-access.js';
import { DeviceRepository } from './ports/device.repository.js';

const ACCESS = {
  embedded: EmbeddedBrokerAccess,
  'mosquitto-dynsec': MosquittoBrokerAccess,
  http: HttpBrokerAccess,
  none: NoBrokerAccess,
} as const;

/** Registry, presence and broker accounts of devices. */
@Module({})
export class DevicesModule implements OnApplicationBootstrap {
  constructor(private readonly watch: PresenceWatch) {}

  static with(config: Config): DynamicModule {
    return {
      module: DevicesModule,
      controllers: [
        DevicesController,
        DeviceStatusMqtt,
        ...(config.brokerAccess === 'http' ? [BrokerQuestionsController] : []),
      ],
      providers: [
        { provide: DeviceRepository, useClass: TypeormDeviceRepository },
        { provide: BrokerAccess, useClass: ACCESS[config.brokerAccess] },
        DeviceRegistry,
        PresenceKeeper,
        PresenceWatch,
        ServiceNames,
      ],
      exports: [DeviceRegistry],
    };
  }

  onApplicationBootstrap(): void {
    this.watch.start();
  }
}
