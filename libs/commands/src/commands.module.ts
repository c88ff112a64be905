import { Module, type DynamicModule, type OnApplicationBootstrap } from '@nestjs/common';
import { Config, MqttTransport } from '#platform';
import { CommandResponsesMqtt } from './adapters/command-responses.mqtt.js';
import { CommandsController } from './adapters/commands.controller.js';
import { DeviceTypesController } from './adapters/device-types.controller.js';
import { MqttCommandSender } from './adapters/mqtt-command-sender.js';
import { MqttDeviceHearing } from './adapters/mqtt-device-hearing.js';
import { TypeormCommandRepository } from './adapters/typeorm-command.repository.js';
import { CommandDesk } from './application/command-desk.js';
import { CommandDispatcher } from './application/command-dispatcher.js';
import { CommandHerald } from './application/command-herald.js';
import { CommandRules } from './domain/command-catalogue.js';
import { CommandRepository } from './ports/command.repository.js';
import { CommandSender } from './ports/command-sender.js';
import { DeviceHearing } from './ports/device-hearing.js';

/** How often claims are renewed, expiry is looked for, and what was overlooked. */
const TIDY_EVERY_MS = 1_000;

/** The command ledger. */
@Module({})
export class CommandsModule implements OnApplicationBootstrap {
  private timer: NodeJS.Timeout | undefined;
  private tidying = false;

  constructor(
    private readonly dispatcher: CommandDispatcher,
    transport: MqttTransport,
  ) {
    transport.onDrain(() => {
      clearInterval(this.timer);
      return dispatcher.drain();
    });
  }

  /** @param devices the devices module as the application has configured it. */
  static with(devices: DynamicModule): DynamicModule {
    return {
      module: CommandsModule,
      imports: [devices],
      controllers: [CommandsController, DeviceTypesController, CommandResponsesMqtt],
      providers: [
        { provide: CommandRepository, useClass: TypeormCommandRepository },
        { provide: CommandSender, useClass: MqttCommandSender },
        { provide: DeviceHearing, useClass: MqttDeviceHearing },
        {
          provide: CommandRules,
          inject: [Config],
          useFactory: (config: Config) => new CommandRules(config.commandsAllowCustom),
        },
        CommandDispatcher,
        CommandHerald,
        CommandDesk,
      ],
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
