import { ApiProperty, ApiPropertyOptional, PartialType } from '@nestjs/swagger';
import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsOptional,
  IsString,
  IsUUID,
  Length,
  Matches,
  Max,
  Min,
  ValidateIf,
} from 'class-validator';
import { applyDecorators } from '@nestjs/common';
import { EVENT_TYPES, MAX_PATIENT_ID } from '#kernel';
import { DEVICE_ID_PATTERN } from '#devices';
import { PageQuery } from '#platform';
import {
  DELIVERY_STATES,
  FAILURES,
  type Delivery,
  type DeliveryState,
  type Failure,
  type FinishedState,
} from '../domain/delivery.js';
import { MAX_URL_LENGTH } from '../domain/receiver-url.js';
import type { DisabledReason, Webhook } from '../domain/webhook.js';
import type { Replay } from '../ports/delivery.repository.js';
import type { WebhookStatus } from '../ports/webhook.repository.js';

const MAX_LIST = 1_000;
const MESSAGE_ID = /^msg_[0-9a-f]{32}$/;
const FINISHED_STATES = ['delivered', 'dead'] as const;

/** A list that narrows what is sent; null and absent: it does not. */
const FilterList = (): PropertyDecorator =>
  applyDecorators(IsOptional(), IsArray(), ArrayMinSize(1), ArrayMaxSize(MAX_LIST), ArrayUnique());

/** Absent, or as the other rules say; null is neither. */
const MayBeAbsent = (): PropertyDecorator => ValidateIf((_dto, value) => value !== undefined);

const list = { minItems: 1, maxItems: MAX_LIST, uniqueItems: true, nullable: true } as const;

/** Path of one webhook. */
export class WebhookPath {
  @ApiProperty({ format: 'uuid' })
  @IsUUID()
  webhook_id!: string;
}

class WebhookFilterDto {
  @ApiPropertyOptional({
    type: 'array',
    items: { type: 'string', enum: [...EVENT_TYPES] },
    ...list,
    description: 'Types of events; all unless given',
  })
  @FilterList()
  @IsIn(EVENT_TYPES, { each: true, message: 'events must be types of events' })
  events?: string[] | null;

  @ApiPropertyOptional({
    type: 'array',
    items: { type: 'string', pattern: DEVICE_ID_PATTERN, example: 'device_123' },
    ...list,
  })
  @FilterList()
  @IsString({ each: true })
  @Matches(new RegExp(DEVICE_ID_PATTERN), { each: true, message: 'device_ids must be ids of devices' })
  device_ids?: string[] | null;

  @ApiPropertyOptional({
    type: 'array',
    items: { type: 'integer', minimum: 1, maximum: MAX_PATIENT_ID, example: 1 },
    ...list,
  })
  @FilterList()
  @IsInt({ each: true })
  @Min(1, { each: true })
  @Max(MAX_PATIENT_ID, { each: true })
  patient_ids?: number[] | null;

  @ApiPropertyOptional({
    type: 'array',
    items: { type: 'string', minLength: 1, maxLength: 100, example: 'blood_pressure' },
    ...list,
    description: 'Of measurements, those of these metrics; other events are not narrowed by it',
  })
  @FilterList()
  @IsString({ each: true })
  @Length(1, 100, { each: true })
  metric_types?: string[] | null;
}

/** Body of POST /webhooks. */
export class CreateWebhook extends WebhookFilterDto {
  @ApiProperty({
    example: 'https://ward.example/events',
    maxLength: MAX_URL_LENGTH,
    description: 'https, without user, password and fragment; port 80, 443 or from 1024',
  })
  @IsString()
  @Length(1, MAX_URL_LENGTH)
  url!: string;

  @ApiPropertyOptional({
    example: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
    pattern: '^whsec_[A-Za-z0-9+/]+={0,2}$',
    maxLength: 100,
    writeOnly: true,
    description: '`whsec_` and 24 to 64 bytes in Base64; one is made unless given',
  })
  @MayBeAbsent()
  @IsString()
  @Length(1, 100)
  secret?: string;

  @ApiPropertyOptional({ default: true, description: 'false: nothing is queued and nothing sent' })
  @MayBeAbsent()
  @IsBoolean()
  active?: boolean;
}

/** Body of PATCH /webhooks/{webhook_id}: what is absent stays, and a list that is null narrows nothing any more. */
export class ChangeWebhook extends PartialType(CreateWebhook, { skipNullProperties: false }) {}

/** A webhook as clients see it. */
export class WebhookView {
  @ApiProperty({ format: 'uuid' })
  webhook_id!: string;

  @ApiProperty({ example: 'https://ward.example/events' })
  url!: string;

  @ApiProperty({ type: [String], nullable: true, description: 'null: all' })
  events!: readonly string[] | null;

  @ApiProperty({ type: [String], nullable: true, description: 'null: all' })
  device_ids!: readonly string[] | null;

  @ApiProperty({ type: [Number], nullable: true, description: 'null: all' })
  patient_ids!: readonly number[] | null;

  @ApiProperty({ type: [String], nullable: true, description: 'null: all' })
  metric_types!: readonly string[] | null;

  @ApiProperty()
  active!: boolean;

  @ApiProperty({
    // OpenAPI 3.0: null has to be among the values too.
    enum: ['gone', null],
    nullable: true,
    description: 'gone: its receiver answered 410, and it was switched off',
  })
  disabled_reason!: DisabledReason | null;

  @ApiProperty({ description: 'Subject of the token that made it' })
  created_by!: string;

  @ApiProperty({ format: 'date-time' })
  created_at!: string;

  @ApiProperty({ format: 'date-time' })
  updated_at!: string;
}

/** A webhook that was just made. */
export class NewWebhookView extends WebhookView {
  @ApiProperty({
    example: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
    description: 'What its messages are signed with. Shown this once',
  })
  secret!: string;
}

class LastFailureView {
  @ApiProperty({ format: 'date-time' })
  at!: string;

  @ApiProperty({ type: Number, nullable: true, description: "The receiver's answer; null: there was none" })
  status!: number | null;

  @ApiProperty({ enum: FAILURES })
  code!: Failure;
}

class DeliveryCounts {
  @ApiProperty({ description: 'To be sent, for the first time or again' })
  pending!: number;

  @ApiProperty({ description: 'Of those that are still kept' })
  delivered!: number;

  @ApiProperty({ description: 'Given up, and still kept' })
  dead!: number;
}

/** A webhook, and how it does. */
export class WebhookDetailView extends WebhookView {
  @ApiProperty()
  deliveries!: DeliveryCounts;

  @ApiProperty({ type: String, format: 'date-time', nullable: true })
  last_success_at!: string | null;

  @ApiProperty({ type: LastFailureView, nullable: true })
  last_failure!: LastFailureView | null;
}

/** A page of webhooks, in the order in which they were made. */
export class WebhookPage {
  @ApiProperty({ type: [WebhookView] })
  data!: WebhookView[];

  @ApiProperty({ type: String, nullable: true, description: 'null at the end' })
  next_cursor!: string | null;
}

/** Query of GET /webhooks/{webhook_id}/deliveries. */
export class ListDeliveries extends PageQuery {
  @ApiPropertyOptional({ enum: DELIVERY_STATES })
  @IsOptional()
  @IsIn(DELIVERY_STATES)
  state?: DeliveryState;
}

/** A delivery as clients see it: what it is about, and what became of it. */
export class DeliveryView {
  @ApiProperty({
    example: 'msg_018f2b1c9a4e4b6f8f0d6a1e2c3b4d5e',
    description: 'The header `webhook-id` of each attempt; the `cursor` of a replay',
  })
  message_id!: string;

  @ApiProperty({ description: "The event's own id, the `id` of the CloudEvent" })
  event_id!: string;

  @ApiProperty({ enum: EVENT_TYPES })
  event_type!: string;

  @ApiProperty({ type: String, nullable: true })
  device_id!: string | null;

  @ApiProperty({ enum: DELIVERY_STATES })
  state!: DeliveryState;

  @ApiProperty({ description: 'Since it was last queued' })
  attempts!: number;

  @ApiProperty({ format: 'date-time' })
  created_at!: string;

  @ApiProperty({ type: String, format: 'date-time', nullable: true, description: 'null unless pending' })
  next_attempt_at!: string | null;

  @ApiProperty({ type: String, format: 'date-time', nullable: true, description: 'null while pending' })
  finished_at!: string | null;

  @ApiProperty({ type: Number, nullable: true, description: "The receiver's last answer" })
  last_status!: number | null;

  @ApiProperty({ enum: [...FAILURES, null], nullable: true, description: 'Why it was not delivered' })
  last_failure!: Failure | null;
}

/** A page of deliveries, newest first. */
export class DeliveryPage {
  @ApiProperty({ type: [DeliveryView] })
  data!: DeliveryView[];

  @ApiProperty({ type: String, nullable: true, description: 'null at the end' })
  next_cursor!: string | null;
}

/** Body of POST /webhooks/{webhook_id}/replay: of what is still kept, what fulfils all that is given. */
export class ReplayDeliveries {
  @ApiPropertyOptional({
    example: 'msg_018f2b1c9a4e4b6f8f0d6a1e2c3b4d5e',
    pattern: MESSAGE_ID.source,
    description: 'Behind this message: the last the receiver has, or `next_cursor` of the last answer',
  })
  @MayBeAbsent()
  @Matches(MESSAGE_ID, { message: 'cursor must be the id of a message' })
  cursor?: string;

  @ApiPropertyOptional({ format: 'date-time', description: 'Created then or later; RFC 3339 with offset' })
  @MayBeAbsent()
  @IsString()
  @Length(1, 40)
  from?: string;

  @ApiPropertyOptional({ format: 'date-time', description: 'Created before then; RFC 3339 with offset' })
  @MayBeAbsent()
  @IsString()
  @Length(1, 40)
  to?: string;

  @ApiPropertyOptional({
    type: 'array',
    items: { type: 'string', enum: [...FINISHED_STATES] },
    minItems: 1,
    maxItems: 2,
    uniqueItems: true,
    description: 'Both unless given',
  })
  @MayBeAbsent()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(FINISHED_STATES.length)
  @ArrayUnique()
  @IsIn(FINISHED_STATES, { each: true, message: 'states must be delivered or dead' })
  states?: FinishedState[];
}

/** What a replay has done. */
export class ReplayView {
  @ApiProperty({ description: 'Deliveries that are pending again' })
  queued!: number;

  @ApiProperty({ description: 'Those that found no room' })
  remaining!: number;

  @ApiProperty({
    type: String,
    nullable: true,
    description:
      'The `cursor` that goes on with the rest, once what was queued is delivered; null: there is none',
  })
  next_cursor!: string | null;
}

export function viewWebhook(webhook: Webhook): WebhookView {
  return {
    webhook_id: webhook.webhookId,
    url: webhook.url,
    events: webhook.events,
    device_ids: webhook.deviceIds,
    patient_ids: webhook.patientIds,
    metric_types: webhook.metricTypes,
    active: webhook.active,
    disabled_reason: webhook.disabledReason,
    created_by: webhook.createdBy,
    created_at: webhook.createdAt.toISOString(),
    updated_at: webhook.updatedAt.toISOString(),
  };
}

export function viewDetail(webhook: Webhook, status: WebhookStatus): WebhookDetailView {
  const { pending, delivered, dead, lastSuccessAt, lastFailure } = status;
  return {
    ...viewWebhook(webhook),
    deliveries: { pending, delivered, dead },
    last_success_at: lastSuccessAt?.toISOString() ?? null,
    last_failure: lastFailure && { ...lastFailure, at: lastFailure.at.toISOString() },
  };
}

export function viewDelivery(delivery: Delivery): DeliveryView {
  return {
    message_id: delivery.messageId,
    event_id: delivery.eventId,
    event_type: delivery.eventType,
    device_id: delivery.deviceId,
    state: delivery.state,
    attempts: delivery.attempts,
    created_at: delivery.createdAt.toISOString(),
    next_attempt_at: delivery.nextAttemptAt?.toISOString() ?? null,
    finished_at: delivery.finishedAt?.toISOString() ?? null,
    last_status: delivery.lastStatus,
    last_failure: delivery.lastFailure,
  };
}

export function viewReplay({ queued, remaining, lastMessageId }: Replay): ReplayView {
  return { queued, remaining, next_cursor: remaining === 0 ? null : lastMessageId };
}
