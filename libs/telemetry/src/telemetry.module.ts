import { Module, type DynamicModule } from '@nestjs/common';
import { DeviceDataMqtt } from './adapters/device-data.mqtt.js';
import { LiveGateway } from './adapters/live.gateway.js';
import { LiveRoom } from './adapters/live-room.js';
import { PgReceiptLedger } from './adapters/pg-receipt-ledger.js';
import { PgRejectedMessageRepository } from './adapters/pg-rejected-message.repository.js';
import { PgStreamLog } from './adapters/pg-stream-log.js';
import { PgStreamPeers } from './adapters/pg-stream-peers.js';
import { RejectedMessagesController } from './adapters/rejected-messages.controller.js';
import { StreamController } from './adapters/stream.controller.js';
import { Ingest } from './application/ingest.js';
import { LiveFeed } from './application/live-feed.js';
import { QuarantineDesk } from './application/quarantine-desk.js';
import { StreamReplay } from './application/stream-replay.js';
import { StreamTail } from './application/stream-tail.js';
import { ReceiptLedger } from './ports/receipt-ledger.js';
import { RejectedMessageRepository } from './ports/rejected-message.repository.js';
import { StreamLog } from './ports/stream-log.js';
import { StreamPeers } from './ports/stream-peers.js';

/** The stream: measurements in, live feed out; and the quarantine of what could not be taken in. */
@Module({})
export class TelemetryModule {
  /** @param devices and @param readings the modules as the application has configured them. */
  static with(devices: DynamicModule, readings: DynamicModule): DynamicModule {
    return {
      module: TelemetryModule,
      imports: [devices, readings],
      controllers: [DeviceDataMqtt, RejectedMessagesController, StreamController],
      providers: [
        { provide: ReceiptLedger, useClass: PgReceiptLedger },
        { provide: RejectedMessageRepository, useClass: PgRejectedMessageRepository },
        { provide: StreamLog, useClass: PgStreamLog },
        { provide: StreamPeers, useExisting: PgStreamPeers },
        Ingest,
        LiveFeed,
        LiveGateway,
        LiveRoom,
        PgStreamPeers,
        QuarantineDesk,
        StreamReplay,
        StreamTail,
      ],
      exports: [Ingest, LiveFeed],
    };
  }
}
