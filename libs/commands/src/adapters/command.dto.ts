import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsObject, IsOptional, IsUUID, Matches } from 'class-validator';
import { DevicePath } from '#devices';
import {
  COMMAND_STATUSES,
  type Command,
  type CommandStatus,
  type ResponseStatus,
} from '../domain/command.js';

/** Path of one command. */
export class CommandPath extends DevicePath {
  @ApiProperty({ format: 'uuid' })
  @IsUUID()
  command_id!: string;
}

/** Body of POST /devices/{device_id}/command. */
export class SendCommand {
  @ApiProperty({ example: 'start_monitoring', pattern: '^[A-Za-z][A-Za-z0-9_.-]{0,99}$' })
  @Matches(/^[A-Za-z][A-Za-z0-9_.-]{0,99}$/, {
    message: 'command must be a name of up to 100 letters, digits, _ . and -',
  })
  command!: string;

  @ApiPropertyOptional({ type: 'object', additionalProperties: true, example: { interval: 30 } })
  @IsOptional()
  @IsObject()
  parameters?: Record<string, unknown>;

  @ApiPropertyOptional({
    example: '10m',
    description: 'Time it has to be completed; COMMAND_EXPIRES_AFTER unless given',
  })
  @IsOptional()
  @Matches(/^\d{1,9}(ms|s|m|h|d)$/, { message: 'expires_in must be a duration such as 30s, 10m or 1h' })
  expires_in?: string;
}

/** A command as clients see it. */
export class CommandView {
  @ApiProperty({ format: 'uuid' })
  command_id!: string;

  @ApiProperty({ example: 'device_123' })
  device_id!: string;

  @ApiProperty({ example: 'start_monitoring' })
  command!: string;

  @ApiProperty({ type: 'object', additionalProperties: true })
  parameters!: Readonly<Record<string, unknown>>;

  @ApiProperty({
    enum: COMMAND_STATUSES,
    description: 'sent: the broker took it; only acknowledged says the device has it',
  })
  status!: CommandStatus;

  @ApiProperty({
    description:
      'Subject of the token that ordered it; one of more than 255 characters, or of such as can not be stored, is ' +
      'shortened and ends in a digest',
  })
  created_by!: string;

  @ApiProperty({ format: 'date-time' })
  created_at!: string;

  @ApiProperty({ type: String, format: 'date-time', nullable: true })
  sent_at!: string | null;

  @ApiProperty({ type: String, format: 'date-time', nullable: true })
  acknowledged_at!: string | null;

  @ApiProperty({ type: String, format: 'date-time', nullable: true })
  completed_at!: string | null;

  @ApiProperty({ format: 'date-time' })
  expires_at!: string;

  @ApiProperty({
    anyOf: [
      { type: 'object', nullable: true, additionalProperties: true },
      { type: 'array', items: {} },
      { type: 'string' },
      { type: 'number' },
      { type: 'boolean' },
    ],
    description: 'As the device reported it',
  })
  result!: unknown;

  @ApiProperty({ type: String, nullable: true })
  error!: string | null;

  @ApiProperty({
    description:
      'Times it was taken up to be handed to the broker, without those when it reached nobody; more than 1 when it was ' +
      'not known whether the broker had it',
  })
  attempts!: number;

  @ApiProperty({ description: 'The device answered when the command was expired or cancelled already' })
  late!: boolean;

  @ApiProperty({
    // OpenAPI 3.0: null has to be among the values too.
    enum: ['acknowledged', 'completed', 'failed', null],
    nullable: true,
    description:
      'What it answered then; `acknowledged_at`, `completed_at`, `result` and `error` say when and what',
  })
  late_response!: ResponseStatus | null;
}

/** A page of commands, newest first. */
export class CommandPage {
  @ApiProperty({ type: [CommandView] })
  data!: CommandView[];

  @ApiProperty({ type: String, nullable: true, description: 'null at the end' })
  next_cursor!: string | null;
}

export function viewCommand(command: Command): CommandView {
  return {
    command_id: command.commandId,
    device_id: command.deviceId,
    command: command.command,
    parameters: command.parameters,
    status: command.status,
    created_by: command.createdBy,
    created_at: command.createdAt.toISOString(),
    sent_at: command.sentAt?.toISOString() ?? null,
    acknowledged_at: command.acknowledgedAt?.toISOString() ?? null,
    completed_at: command.completedAt?.toISOString() ?? null,
    expires_at: command.expiresAt.toISOString(),
    result: command.result,
    error: command.error,
    attempts: command.attempts,
    late: command.lateResponse !== null,
    late_response: command.lateResponse,
  };
}
