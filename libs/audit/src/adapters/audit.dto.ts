import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsOptional, IsString, Length } from 'class-validator';
import type { AuditOutcome } from '#kernel';
import { IsPatientId, PeriodQuery } from '#platform';
import type { AuditRecord } from '../ports/audit-log.js';

/** Query of GET /audit. */
export class ListAudit extends PeriodQuery {
  @ApiPropertyOptional({ example: 'operator-1', description: "The token's subject" })
  @IsOptional()
  @IsString()
  @Length(1, 255)
  actor?: string;

  @ApiPropertyOptional({
    example: 'getDeviceData',
    description: 'An operationId, of the stream, connectDevice or exceedRateLimit',
  })
  @IsOptional()
  @IsString()
  @Length(1, 255)
  action?: string;

  @ApiPropertyOptional({ example: 'device_123' })
  @IsOptional()
  @IsString()
  @Length(1, 255)
  device_id?: string;

  @ApiPropertyOptional({ example: 1, type: 'integer' })
  @IsOptional()
  @Type(() => Number)
  @IsPatientId()
  patient_id?: number;
}

/** An entry of the audit log as clients see it. */
export class AuditView {
  @ApiProperty({ example: 1, description: 'Its place in the chain' })
  id!: number;

  @ApiProperty({ format: 'date-time' })
  at!: string;

  @ApiProperty({ type: String, nullable: true, description: 'null: no valid token' })
  actor!: string | null;

  @ApiProperty({ type: String, nullable: true, example: 'clinician' })
  role!: string | null;

  @ApiProperty({ type: String, nullable: true })
  tenant!: string | null;

  @ApiProperty({
    example: 'getDeviceData',
    description: "The operation's id in this document, of the stream, connectDevice or exceedRateLimit",
  })
  action!: string;

  @ApiProperty({ type: Number, nullable: true, description: 'Who had the device at the time' })
  patient_id!: number | null;

  @ApiProperty({ type: String, nullable: true })
  device_id!: string | null;

  @ApiProperty({ type: String, nullable: true, description: 'What else it is about, such as a command_id' })
  target!: string | null;

  @ApiProperty({ type: String, nullable: true, example: '192.0.2.1' })
  source!: string | null;

  @ApiProperty({ enum: ['begun', 'done', 'refused', 'denied', 'failed'] })
  outcome!: AuditOutcome;

  @ApiProperty({ type: String, nullable: true, example: 'insufficient_scope' })
  detail!: string | null;

  @ApiProperty({ description: "The answer's X-Request-Id" })
  request_id!: string;

  @ApiProperty({ description: 'SHA-256 over this entry and the hash of the one before' })
  hash!: string;
}

/** A page of the audit log. */
export class AuditPage {
  @ApiProperty({ type: [AuditView] })
  data!: AuditView[];

  @ApiProperty({ type: String, nullable: true, description: 'null at the end' })
  next_cursor!: string | null;
}

export function viewAudit(record: AuditRecord): AuditView {
  return {
    id: record.id,
    at: record.at.toISOString(),
    actor: record.actor,
    role: record.role,
    tenant: record.tenant,
    action: record.action,
    patient_id: record.patientId,
    device_id: record.deviceId,
    target: record.target,
    source: record.source,
    outcome: record.outcome,
    detail: record.detail,
    request_id: record.requestId,
    hash: record.hash,
  };
}
