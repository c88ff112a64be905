import { Module, type DynamicModule } from '@nestjs/common';
import { AuditModule } from '#audit';
import { CommandsModule } from '#commands';
import { DevicesModule } from '#devices';
import { PlatformModule, type PlatformParts } from '#platform';
import { ReadingsModule } from '#readings';
import { TelemetryModule } from '#telemetry';
import { WebhooksModule } from '#webhooks';
import { HealthModule } from './health/health.module.js';
import { MetricsModule } from './metrics/metrics.module.js';

/** The composition root: the platform, the modules, health and metrics. */
@Module({})
export class AppModule {
  static with(parts: PlatformParts): DynamicModule {
    const devices = DevicesModule.with(parts.config);
    const readings = ReadingsModule.with(devices);
    const telemetry = TelemetryModule.with(devices, readings);
    const webhooks = WebhooksModule.with(parts.config);
    const health = HealthModule.with(telemetry, webhooks);
    return {
      module: AppModule,
      imports: [
        AuditModule.with(),
        PlatformModule.with(parts),
        devices,
        readings,
        telemetry,
        CommandsModule.with(devices),
        webhooks,
        health,
        MetricsModule.with(health),
      ],
    };
  }
}
