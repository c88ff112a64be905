import { Module, type DynamicModule } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { HealthController } from './health.controller.js';
import { ServiceHealth } from './service-health.js';
import { Vitals } from './vitals.js';

/** What probes and operators ask. */
@Module({})
export class HealthModule {
  /** Takes the modules it tells of as the application has configured them. */
  static with(telemetry: DynamicModule, webhooks: DynamicModule): DynamicModule {
    return {
      module: HealthModule,
      imports: [TerminusModule.forRoot({ logger: false }), telemetry, webhooks],
      controllers: [HealthController],
      providers: [ServiceHealth, Vitals],
      exports: [Vitals],
    };
  }
}
