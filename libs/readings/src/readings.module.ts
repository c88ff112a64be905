import { Module, type DynamicModule, type OnApplicationBootstrap } from '@nestjs/common';
import { PgReadingPartitions } from './adapters/pg-reading-partitions.js';
import { PgReadingRepository } from './adapters/pg-reading.repository.js';
import { ReadingsController } from './adapters/readings.controller.js';
import { ReadingHistory } from './application/reading-history.js';
import { ReadingRepository } from './ports/reading.repository.js';

/** Stored measurements and their history. */
@Module({})
export class ReadingsModule implements OnApplicationBootstrap {
  constructor(private readonly partitions: PgReadingPartitions) {}

  /** @param devices the devices module as the application has configured it. */
  static with(devices: DynamicModule): DynamicModule {
    return {
      module: ReadingsModule,
      imports: [devices],
      controllers: [ReadingsController],
      providers: [
        { provide: ReadingRepository, useClass: PgReadingRepository },
        ReadingHistory,
        PgReadingPartitions,
      ],
      exports: [ReadingRepository],
    };
  }

  onApplicationBootstrap(): void {
    this.partitions.start();
  }
}
