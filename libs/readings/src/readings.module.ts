import { Module, type DynamicModule } from '@nestjs/common';
import { PgReadingRepository } from './adapters/pg-reading.repository.js';
import { ReadingsController } from './adapters/readings.controller.js';
import { ReadingHistory } from './application/reading-history.js';
import { ReadingRepository } from './ports/reading.repository.js';

/** Stored measurements and their history. */
@Module({})
export class ReadingsModule {
  /** @param devices the devices module as the application has configured it. */
  static with(devices: DynamicModule): DynamicModule {
    return {
      module: ReadingsModule,
      imports: [devices],
      controllers: [ReadingsController],
      providers: [{ provide: ReadingRepository, useClass: PgReadingRepository }, ReadingHistory],
      exports: [ReadingRepository],
    };
  }
}
