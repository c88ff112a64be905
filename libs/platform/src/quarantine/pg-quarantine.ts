import { Injectable } from '@nestjs/common';
import { Quarantine, type RejectedMessage, type Transaction } from '#kernel';
import { clientOf } from '../database/pg-unit-of-work.js';

/** The table `rejected_messages`. */
@Injectable()
export class PgQuarantine extends Quarantine {
  async add(transaction: Transaction, messages: readonly RejectedMessage[]): Promise<void> {
    if (messages.length === 0) return;
    await clientOf(transaction).query({
      name: 'quarantine-add',
      text: `INSERT INTO rejected_messages (message_id, topic, payload, reason, detail, device_id, retained, received_at)
             SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::timestamptz[])
             ON CONFLICT (message_id) DO NOTHING`,
      values: [
        messages.map((message) => message.messageId),
        // PostgreSQL's text can't hold U+0000, which a lax broker may let through in a topic.
        messages.map((message) => message.topic.replaceAll('\0', '\uFFFD')),
        messages.map((message) => Buffer.from(message.payload)),
        messages.map((message) => message.reason),
        messages.map((message) => message.detail),
        messages.map((message) => message.deviceId),
        messages.map((message) => message.retained),
        messages.map((message) => message.receivedAt.toISOString()),
      ],
    });
  }
}
