import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsOptional, Matches } from 'class-validator';
import { REJECTION_REASONS, type RejectionReason } from '#kernel';
import { PeriodQuery, Problem } from '#platform';
import { DEVICE_ID_PATTERN } from '#devices';
import type { QuarantinedMessage } from '../ports/rejected-message.repository.js';

/** Far below 2^53, where numbers stop being exact, and far above what a table holds. */
const ID = /^[1-9]\d{0,14}$/;

/** Path of one rejected message. */
export class RejectedMessagePath {
  @ApiProperty({ type: 'integer', minimum: 1, example: 1 })
  @Matches(ID, { message: 'id must be a whole number from 1 to 999999999999999' })
  id!: string;
}

/** Query of GET /rejected-messages. */
export class ListRejectedMessages extends PeriodQuery {
  @ApiPropertyOptional({ example: 'device_123', pattern: DEVICE_ID_PATTERN })
  @IsOptional()
  @Matches(new RegExp(DEVICE_ID_PATTERN), { message: `device_id must match ${DEVICE_ID_PATTERN}` })
  device_id?: string;

  @ApiPropertyOptional({ enum: REJECTION_REASONS })
  @IsOptional()
  @IsIn(REJECTION_REASONS)
  reason?: RejectionReason;
}

/** A rejected message as clients see it. */
export class RejectedMessageView {
  @ApiProperty({ example: 1 })
  id!: number;

  @ApiProperty({ example: 'devices/device_123/data' })
  topic!: string;

  @ApiProperty({ format: 'byte', description: 'What was sent, byte for byte' })
  payload_base64!: string;

  @ApiProperty({ enum: REJECTION_REASONS })
  reason!: RejectionReason;

  @ApiProperty({ example: 'No device of this id is registered.', description: 'Holds no measured value' })
  detail!: string;

  @ApiProperty({
    type: String,
    nullable: true,
    example: 'device_123',
    description: 'null where the topic names no possible device id',
  })
  device_id!: string | null;

  @ApiProperty({ format: 'date-time' })
  received_at!: string;
}

/** A page of rejected messages. */
export class RejectedMessagePage {
  @ApiProperty({ type: [RejectedMessageView] })
  data!: RejectedMessageView[];

  @ApiProperty({
    type: String,
    nullable: true,
    description: 'null at the end; a page of large payloads may hold fewer than limit and still have a next',
  })
  next_cursor!: string | null;
}

/** Answer of POST /rejected-messages/{id}/retry. */
export class RetryView {
  @ApiProperty({ example: 1 })
  id!: number;

  @ApiProperty({ enum: ['stored'] })
  status!: 'stored';

  @ApiProperty({ example: 'device_123' })
  device_id!: string;

  @ApiProperty({ example: 3, description: 'Readings it gave, those stored before included' })
  readings!: number;
}

/** A message that can't be taken in today either. */
export class StillRejectedProblem extends Problem {
  @ApiPropertyOptional({ enum: REJECTION_REASONS, description: 'With code still_rejected: the reason now' })
  reason?: RejectionReason;
}

export function viewRejectedMessage(message: QuarantinedMessage): RejectedMessageView {
  const { buffer, byteOffset, byteLength } = message.payload;
  return {
    id: message.id,
    topic: message.topic,
    payload_base64: Buffer.from(buffer, byteOffset, byteLength).toString('base64'),
    reason: message.reason,
    detail: message.detail,
    device_id: message.deviceId,
    received_at: message.receivedAt.toISOString(),
  };
}
