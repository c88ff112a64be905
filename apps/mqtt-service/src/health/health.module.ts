import { Module, type DynamicModule } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { HealthController } from './health.controller.js';
import { ServiceHealth } from './service-health.js';
import { Vitals } from './vitals.js';

/** What probes and operators ask. */
@Module({})
export class HealthModule {
  /** @param telemetry the telemetry module as the application has configured it. */
  static with(telemetry: DynamicModule): DynamicModule {
    return {
      module: HealthModule,
      imports: [TerminusModule.forRoot({ logger: false }), telemetry],
      controllers: [HealthController],
      providers: [ServiceHealth, Vitals],
      exports: [Vitals],
    };
  }
}
