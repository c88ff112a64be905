import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsOptional, IsString } from 'class-validator';
import { EVENT_TYPES } from '#kernel';
import { METRIC_NAME_PATTERN } from '#readings';

const listOf = (item: string): string => `^(${item})(,(${item}))*$`;

/** Query of GET /stream: what of the stream is wanted. Lists are separated by commas; one that is absent narrows nothing. */
export class StreamQuery {
  @ApiPropertyOptional({ example: 'device_123,device_124', description: 'Up to 1000 device ids' })
  @IsOptional()
  @IsString()
  device_ids?: string;

  @ApiPropertyOptional({ example: '1,2', description: 'Up to 1000 patients' })
  @IsOptional()
  @IsString()
  patient_ids?: string;

  @ApiPropertyOptional({
    example: 'blood_pressure,spo2',
    pattern: listOf(METRIC_NAME_PATTERN),
    description: 'Up to 1000 metrics and panels; they narrow measurements only',
  })
  @IsOptional()
  @IsString()
  metric_types?: string;

  @ApiPropertyOptional({
    example: 'device.data.received',
    pattern: listOf(EVENT_TYPES.map((type) => type.replaceAll('.', '[.]')).join('|')),
    description: 'Types of events',
  })
  @IsOptional()
  @IsString()
  events?: string;

  @ApiPropertyOptional({
    example: '7.1024.0.12',
    description:
      'The last id that was read: what followed is told first. Last-Event-ID says the same, and counts first',
  })
  @IsOptional()
  @IsString()
  since?: string;
}
