import { Module, type DynamicModule } from '@nestjs/common';
import { MetricsController } from './metrics.controller.js';
import { ServiceMetrics } from './service-metrics.js';

/** What Prometheus scrapes. */
@Module({})
export class MetricsModule {
  /** @param health the health module as the application has configured it: it measures what is told here. */
  static with(health: DynamicModule): DynamicModule {
    return {
      module: MetricsModule,
      imports: [health],
      controllers: [MetricsController],
      providers: [ServiceMetrics],
    };
  }
}
