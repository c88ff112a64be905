import { Injectable } from '@nestjs/common';
import { MicroDate, type Transaction } from '#kernel';
import { clientOf, Config, Database } from '#platform';
import {
  HANDOVER_MS,
  LATE_READ_MS,
  ReceiptLedger,
  ReceivedElsewhere,
  type NewReceipt,
  type Receipt,
} from '../ports/receipt-ledger.js';

/** The table `mqtt_receipts`: at most one row a packet id, of which there are 65,535. */
@Injectable()
export class PgReceiptLedger extends ReceiptLedger {
  private readonly clientId: string;

  constructor(
    private readonly database: Database,
    config: Config,
  ) {
    super();
    this.clientId = config.mqtt.clientId;
  }

  async find(packetIds: readonly number[]): Promise<ReadonlyMap<number, Receipt>> {
    const { rows } = await this.database.ingest.query<{
      packet_id: number;
      digest: Buffer;
      received_at: string;
    }>({
      text: `SELECT packet_id, digest, to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS received_at
             FROM mqtt_receipts WHERE client_id = $1 AND packet_id = ANY ($2)`,
      values: [this.clientId, packetIds],
    });
    return new Map(
      rows.map((row) => [
        row.packet_id,
        {
          packetId: row.packet_id,
          digest: row.digest.toString('base64url'),
          receivedAt: MicroDate.of(row.received_at),
        },
      ]),
    );
  }

  async record(transaction: Transaction, receipts: readonly NewReceipt[]): Promise<void> {
    // A packet id that occurs twice in a batch was given out again after a reconnect: the later one counts.
    const newest = [...new Map(receipts.map((receipt) => [receipt.packetId, receipt])).values()];
    if (newest.length === 0) return;
    newest.sort((a, b) => a.packetId - b.packetId);
    const { rowCount } = await clientOf(transaction).query({
      name: 'receipts-record',
      // A replica that loses the session may still be storing what its successor is given again. Who comes second waits
      // here for the first, and finds its receipt. A first delivery meets an equal one of the past, too, when a packet
      // id is given out again for a message of the same bytes: that is another message.
      text: `INSERT INTO mqtt_receipts AS known (client_id, packet_id, digest, received_at)
             SELECT $1, packet_id, digest, received_at
             FROM unnest($2::integer[], $3::bytea[], $4::timestamptz[]) AS new (packet_id, digest, received_at)
             ON CONFLICT (client_id, packet_id) DO UPDATE SET digest = excluded.digest, received_at = excluded.received_at
             WHERE known.digest <> excluded.digest
                OR (known.received_at NOT BETWEEN excluded.received_at
                      - CASE WHEN known.packet_id = ANY ($7::integer[]) THEN $8::interval ELSE '0' END
                      AND excluded.received_at + $6::interval
                    AND known.packet_id <> ALL ($5::integer[]))`,
      values: [
        this.clientId,
        newest.map((receipt) => receipt.packetId),
        newest.map((receipt) => Buffer.from(receipt.digest, 'base64url')),
        newest.map((receipt) => receipt.receivedAt.toISOString()),
        newest.filter((receipt) => receipt.duplicate).map((receipt) => receipt.packetId),
        `${HANDOVER_MS} milliseconds`,
        newest.filter((receipt) => receipt.mayBeElsewhere).map((receipt) => receipt.packetId),
        `${LATE_READ_MS} milliseconds`,
      ],
    });
    if (rowCount !== newest.length) throw new ReceivedElsewhere();
  }
}
