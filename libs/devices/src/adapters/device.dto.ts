import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsIn, IsOptional, IsString, Length, Matches, ValidateIf } from 'class-validator';
import { MAX_PATIENT_ID } from '#kernel';
import { IsPatientId, PageQuery } from '#platform';
import { DEVICE_ID_PATTERN, DEVICE_TYPES, type Device, type DeviceType } from '../domain/device.js';
import { DEVICE_STATUSES, type DeviceStatus } from '../domain/presence.js';
import type { DeviceCredentials } from '../ports/broker-access.js';

/** The device id in a path. */
export class DevicePath {
  @ApiProperty({ example: 'device_123', pattern: DEVICE_ID_PATTERN })
  @Matches(new RegExp(DEVICE_ID_PATTERN), { message: `device_id must match ${DEVICE_ID_PATTERN}` })
  device_id!: string;
}

/** Body of POST /devices/register. */
export class RegisterDevice extends DevicePath {
  @ApiProperty({ enum: DEVICE_TYPES, example: 'blood_pressure_monitor' })
  @IsIn(DEVICE_TYPES)
  type!: DeviceType;

  @ApiProperty({ example: 1, minimum: 1, maximum: MAX_PATIENT_ID, type: 'integer' })
  @IsPatientId()
  patient_id!: number;

  @ApiPropertyOptional({ type: String, nullable: true, maxLength: 100, example: 'BPM-200' })
  @IsOptional()
  @IsString()
  @Length(1, 100)
  model?: string | null;

  @ApiPropertyOptional({ type: String, nullable: true, maxLength: 100, example: 'SN-0001' })
  @IsOptional()
  @IsString()
  @Length(1, 100)
  serial_number?: string | null;
}

/** Body of PATCH /devices/{device_id}: what is left out stays as it is. */
export class AmendDevice {
  @ApiPropertyOptional({ example: 2, minimum: 1, maximum: MAX_PATIENT_ID, type: 'integer' })
  @ValidateIf((_body, value) => value !== undefined)
  @IsPatientId()
  patient_id?: number;

  @ApiPropertyOptional({ type: String, nullable: true, maxLength: 100, example: 'BPM-200' })
  @IsOptional()
  @IsString()
  @Length(1, 100)
  model?: string | null;

  @ApiPropertyOptional({ type: String, nullable: true, maxLength: 100, example: 'SN-0001' })
  @IsOptional()
  @IsString()
  @Length(1, 100)
  serial_number?: string | null;
}

/** Query of GET /devices. */
export class ListDevices extends PageQuery {
  @ApiPropertyOptional({ enum: DEVICE_TYPES })
  @IsOptional()
  @IsIn(DEVICE_TYPES)
  type?: DeviceType;

  @ApiPropertyOptional({ enum: DEVICE_STATUSES })
  @IsOptional()
  @IsIn(DEVICE_STATUSES)
  status?: DeviceStatus;

  @ApiPropertyOptional({ example: 1, type: 'integer' })
  @IsOptional()
  @Type(() => Number)
  @IsPatientId()
  patient_id?: number;
}

/** A device as clients see it. */
export class DeviceView {
  @ApiProperty({ example: 1 })
  id!: number;

  @ApiProperty({ example: 'device_123' })
  device_id!: string;

  @ApiProperty({ example: 1 })
  patient_id!: number;

  @ApiProperty({ enum: DEVICE_TYPES })
  type!: DeviceType;

  @ApiProperty({ type: String, nullable: true })
  model!: string | null;

  @ApiProperty({ type: String, nullable: true })
  serial_number!: string | null;

  @ApiProperty({ enum: DEVICE_STATUSES, description: 'inactive: never seen' })
  status!: DeviceStatus;

  @ApiProperty({ type: String, format: 'date-time', nullable: true })
  last_seen!: string | null;

  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'When its last measurement came in: an online device may be silent',
  })
  last_data_at!: string | null;

  @ApiProperty({ format: 'date-time' })
  created_at!: string;

  @ApiProperty({ type: Number, nullable: true, description: 'Percent' })
  battery!: number | null;

  @ApiProperty({ type: Number, nullable: true, description: 'dBm' })
  signal_strength!: number | null;

  @ApiProperty({ type: String, format: 'date-time', nullable: true })
  connected_since!: string | null;

  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'From then on nothing it sends is taken in',
  })
  decommissioned_at!: string | null;
}

/** A device's account at the broker, shown once. */
export class CredentialsView {
  @ApiProperty({ example: 'device_123' })
  username!: string;

  @ApiProperty({ description: 'Shown here and never again' })
  password!: string;

  @ApiProperty({ example: 'device_123', description: 'The only client id the account may connect with' })
  client_id!: string;
}

/** Answer of POST /devices/register. */
export class RegistrationView extends DeviceView {
  @ApiPropertyOptional({ type: CredentialsView, description: 'Absent when the broker is managed elsewhere' })
  credentials?: CredentialsView;
}

/** A page of devices. */
export class DevicePage {
  @ApiProperty({ type: [DeviceView] })
  data!: DeviceView[];

  @ApiProperty({ type: String, nullable: true, description: 'null at the end' })
  next_cursor!: string | null;
}

export function viewDevice(device: Device): DeviceView {
  const { presence } = device;
  return {
    id: device.id,
    device_id: device.deviceId,
    patient_id: device.patientId,
    type: device.type,
    model: device.model,
    serial_number: device.serialNumber,
    status: presence.status,
    last_seen: presence.lastSeen?.toISOString() ?? null,
    last_data_at: presence.lastDataAt?.toISOString() ?? null,
    created_at: device.createdAt.toISOString(),
    battery: presence.battery,
    signal_strength: presence.signalStrength,
    connected_since: presence.connectedSince?.toISOString() ?? null,
    decommissioned_at: device.decommissionedAt?.toISOString() ?? null,
  };
}

export function viewCredentials(credentials: DeviceCredentials): CredentialsView {
  return { username: credentials.username, password: credentials.password, client_id: credentials.clientId };
}
