import { Injectable } from '@nestjs/common';
import {
  DEFAULT_TENANT,
  MessageRejected,
  MicroDate,
  UnitOfWork,
  type RejectionReason,
  type Transaction,
} from '#kernel';
import { clientOf, Config, Database, DeviceTopic, messageId, parseJsonPayload, refusalOf } from '#platform';
import {
  RejectedMessageRepository,
  type HeldMessage,
  type QuarantinedMessage,
  type QuarantinePage,
  type QuarantinePosition,
  type RejectionFilter,
  type Release,
} from '../ports/rejected-message.repository.js';

/**
 * Payload bytes after which a page ends. An answer holds them as base64, and on the way through the driver as
 * hexadecimal text: about six times as much memory.
 */
const PAGE_BYTES = 4 * 1024 * 1024;

interface ListedRecord {
  readonly id: string;
  readonly topic: string;
  readonly payload: Buffer;
  readonly reason: RejectionReason;
  readonly detail: string;
  readonly device_id: string | null;
  readonly position: string;
  readonly more: boolean;
}

interface HeldRecord extends Pick<ListedRecord, 'topic' | 'payload' | 'position'> {
  readonly retained: boolean;
}

/** To the microsecond, which is what tells undated messages apart. */
const RECEIVED_AT = `to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

/** The table `rejected_messages`, seen from the desk. */
@Injectable()
export class PgRejectedMessageRepository extends RejectedMessageRepository {
  private readonly dataTopic: DeviceTopic;

  constructor(
    private readonly database: Database,
    private readonly unitOfWork: UnitOfWork,
    config: Config,
  ) {
    super();
    this.dataTopic = new DeviceTopic(config.mqtt.topics.data);
  }

  async page(
    filter: RejectionFilter,
    after: QuarantinePosition | null,
    limit: number,
  ): Promise<QuarantinePage> {
    const values: unknown[] = [];
    const value = (given: unknown): string => `$${values.push(given)}`;
    const conditions = [
      concerns(value(filter.tenant)),
      ...(filter.deviceId !== undefined ? [`device_id = ${value(filter.deviceId)}`] : []),
      ...(filter.reason !== undefined ? [`reason = ${value(filter.reason)}`] : []),
      ...(filter.from !== undefined ? [`received_at >= ${value(filter.from)}::timestamptz`] : []),
      ...(filter.to !== undefined ? [`received_at < ${value(filter.to)}::timestamptz`] : []),
      ...(after
        ? [`(received_at, id) < (${value(after.receivedAt)}::timestamptz, ${value(after.id)}::bigint)`]
        : []),
    ];
    // octet_length does not read a payload that lies in the table's TOAST: only those of the page are fetched.
    const records = await this.database.query<ListedRecord>(
      `SELECT id, topic, payload, reason, detail, device_id, found > place AS more,
              ${RECEIVED_AT} AS position
       FROM (
         SELECT *, count(*) OVER () AS found, row_number() OVER newest AS place,
                sum(octet_length(payload)) OVER newest - octet_length(payload) AS bytes_before
         FROM (
           SELECT id, topic, payload, reason, detail, device_id, received_at FROM rejected_messages
           WHERE ${conditions.join(' AND ')}
           ORDER BY received_at DESC, id DESC LIMIT ${value(limit + 1)}
         ) AS candidate
         WINDOW newest AS (ORDER BY received_at DESC, id DESC)
       ) AS measured
       WHERE place <= ${value(limit)} AND bytes_before < ${value(PAGE_BYTES)}
       ORDER BY place`,
      values,
    );
    const last = records.at(-1);
    return {
      messages: records.map(toQuarantinedMessage),
      next: last?.more ? { receivedAt: last.position, id: Number(last.id) } : null,
    };
  }

  async find(id: number, tenant: string): Promise<HeldMessage | null> {
    const [record] = await this.database.query<HeldRecord>(
      `SELECT topic, payload, retained, ${RECEIVED_AT} AS position FROM rejected_messages WHERE id = $1 AND ${concerns('$2')}`,
      [id, tenant],
    );
    return record ? this.hold(record) : null;
  }

  async release<T>(id: number, store: (transaction: Transaction) => Promise<T>): Promise<Release<T> | null> {
    return this.unitOfWork.run(async (transaction) => {
      const client = clientOf(transaction);
      const { rowCount } = await client.query('SELECT FROM rejected_messages WHERE id = $1 FOR UPDATE', [id]);
      if (rowCount === 0) return null;
      await client.query('SAVEPOINT untried');
      try {
        const stored = await store(transaction);
        await client.query('DELETE FROM rejected_messages WHERE id = $1', [id]);
        return { stored };
      } catch (error) {
        const rejection = rejectionOf(error);
        if (!rejection) throw error;
        await client.query('ROLLBACK TO SAVEPOINT untried');
        await client.query('UPDATE rejected_messages SET reason = $2, detail = $3 WHERE id = $1', [
          id,
          rejection.reason,
          rejection.message,
        ]);
        return { rejection };
      }
    });
  }

  private hold({ topic, payload, retained, position }: HeldRecord): HeldMessage {
    return {
      deviceId: this.dataTopic.deviceIdOf(topic),
      retained,
      receivedAt: MicroDate.of(position),
      bytes: payload.length,
      parse: () => parseJsonPayload(payload),
      id: (firstReceived) => messageId(topic, payload, firstReceived),
    };
  }
}

/** A subquery for each row rather than a join, which might lead the planner away from the order of the page. */
function concerns(tenant: string): string {
  return `coalesce((SELECT tenant FROM medical_devices d WHERE d.device_id = rejected_messages.device_id),
                   '${DEFAULT_TENANT}') = ${tenant}`;
}

function rejectionOf(error: unknown): MessageRejected | null {
  return error instanceof MessageRejected ? error : refusalOf(error);
}

function toQuarantinedMessage(record: ListedRecord): QuarantinedMessage {
  return {
    id: Number(record.id),
    topic: record.topic,
    payload: record.payload,
    reason: record.reason,
    detail: record.detail,
    deviceId: record.device_id,
    receivedAt: MicroDate.of(record.position),
  };
}
