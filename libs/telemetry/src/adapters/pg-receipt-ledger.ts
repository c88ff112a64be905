import { Injectable } from '@nestjs/common';
import type { Transaction } from '#kernel';
import { clientOf, Config, Database } from '#platform';
import { ReceiptLedger, type Receipt } from '../ports/receipt-ledger.js';

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
      received_at: Date;
    }>({
      text: 'SELECT packet_id, digest, received_at FROM mqtt_receipts WHERE client_id = $1 AND packet_id = ANY ($2)',
      values: [this.clientId, packetIds],
    });
    return new Map(
      rows.map((row) => [
        row.packet_id,
        { packetId: row.packet_id, digest: row.digest.toString('base64url'), receivedAt: row.received_at },
      ]),
    );
  }

  async record(transaction: Transaction, receipts: readonly Receipt[]): Promise<void> {
    // A packet id that occurs twice in a batch was given out again after a reconnect: the later one counts.
    const newest = [...new Map(receipts.map((receipt) => [receipt.packetId, receipt])).values()];
    if (newest.length === 0) return;
    newest.sort((a, b) => a.packetId - b.packetId);
    await clientOf(transaction).query({
      name: 'receipts-record',
      text: `INSERT INTO mqtt_receipts (client_id, packet_id, digest, received_at)
             SELECT $1, * FROM unnest($2::integer[], $3::bytea[], $4::timestamptz[])
             ON CONFLICT (client_id, packet_id) DO UPDATE SET digest = excluded.digest, received_at = excluded.received_at`,
      values: [
        this.clientId,
        newest.map((receipt) => receipt.packetId),
        newest.map((receipt) => Buffer.from(receipt.digest, 'base64url')),
        newest.map((receipt) => receipt.receivedAt.toISOString()),
      ],
    });
  }
}
