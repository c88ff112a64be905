import { Module, type DynamicModule } from '@nestjs/common';
import { CommandsModule } from '#commands';
import { DevicesModule } from '#devices';
import { PlatformModule, type PlatformParts } from '#platform';
import { ReadingsModule } from '#readings';
import { TelemetryModule } from '#telemetry';
import { HealthModule } from './health/health.module.js';

/** The composition root: the platform, the modules, and health. */
@Module({})
export class AppModule {
  static with(parts: PlatformParts): DynamicModule {
    const devices = DevicesModule.with(parts.config);
    const readings = ReadingsModule.with(devices);
    const telemetry = TelemetryModule.with(devices, readings);
    return {
      module: AppModule,
      imports: [
        PlatformModule.with(parts),
        devices,
        readings,
        telemetry,
        CommandsModule.with(devices),
        HealthModule.with(telemetry),
      ],
    };
  }
}
