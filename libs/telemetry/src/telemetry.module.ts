import { Module, type DynamicModule } from '@nestjs/common';
import { DeviceDataMqtt } from './adapters/device-data.mqtt.js';
import { LiveGateway } from './adapters/live.gateway.js';
import { PgReceiptLedger } from './adapters/pg-receipt-ledger.js';
import { Ingest } from './application/ingest.js';
import { LiveFeed } from './application/live-feed.js';
import { ReceiptLedger } from './ports/receipt-ledger.js';

/** The stream: measurements in, live feed out. */
@Module({})
export class TelemetryModule {
  /** @param devices and @param readings the modules as the application has configured them. */
  static with(devices: DynamicModule, readings: DynamicModule): DynamicModule {
    return {
      module: TelemetryModule,
      imports: [devices, readings],
      controllers: [DeviceDataMqtt],
      providers: [{ provide: ReceiptLedger, useClass: PgReceiptLedger }, Ingest, LiveFeed, LiveGateway],
      exports: [Ingest, LiveFeed],
    };
  }
}
