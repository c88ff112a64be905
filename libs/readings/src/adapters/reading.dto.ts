import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsIn, IsInt, IsOptional, IsString, Length, Matches, Max, Min } from 'class-validator';
import { PeriodQuery } from '#platform';
import { METRIC_NAME_PATTERN } from '../domain/catalogue.js';
import type { StoredReading } from '../domain/reading.js';
import type { Bucket } from '../ports/reading.repository.js';

const METRICS = new RegExp(`^${METRIC_NAME_PATTERN}(,${METRIC_NAME_PATTERN}){0,19}$`);
const MAX_POINTS = 10_000;
const POINTS = { message: `max_points must be a whole number from 2 to ${MAX_POINTS}` };

/** Query of GET /devices/{device_id}/data. */
export class HistoryQuery extends PeriodQuery {
  @ApiPropertyOptional({ example: 'blood_pressure', description: 'Metrics or panels, comma-separated' })
  @IsOptional()
  @Matches(METRICS, { message: 'metric_type must be names of metrics, comma-separated' })
  metric_type?: string;

  @ApiPropertyOptional({
    enum: ['asc', 'desc'],
    default: 'desc',
    description: 'By time; newest first unless asc',
  })
  @IsOptional()
  @IsIn(['asc', 'desc'])
  order: 'asc' | 'desc' = 'desc';

  @ApiPropertyOptional({ example: '5m', description: 'One row a metric and interval of this length' })
  @IsOptional()
  @IsString()
  @Length(2, 12)
  interval?: string;

  @ApiPropertyOptional({ example: 'avg,min,max,count', description: 'With interval; all four unless named' })
  @IsOptional()
  @IsString()
  @Length(1, 40)
  aggregate?: string;

  @ApiPropertyOptional({
    type: 'integer',
    minimum: 2,
    maximum: MAX_POINTS,
    description: 'Downsampled, extremes kept',
  })
  @IsOptional()
  @Type(() => Number)
  @IsInt(POINTS)
  @Min(2, POINTS)
  @Max(MAX_POINTS, POINTS)
  max_points?: number;
}

/** A reading as clients see it. */
export class ReadingView {
  @ApiProperty({ example: 1 })
  id!: number;

  @ApiProperty({ example: 'device_123' })
  device_id!: string;

  @ApiProperty({ example: 'systolic' })
  metric_type!: string;

  @ApiProperty({ example: 120 })
  value!: number;

  @ApiProperty({ type: String, nullable: true, example: 'mm[Hg]', description: 'UCUM' })
  unit!: string | null;

  @ApiProperty({ format: 'date-time', example: '2024-01-23T10:30:00.000Z' })
  timestamp!: string;

  @ApiProperty({ type: 'object', additionalProperties: true })
  metadata!: Readonly<Record<string, unknown>>;
}

/** One metric over one interval. */
export class BucketView {
  @ApiProperty({ example: 'systolic' })
  metric_type!: string;

  @ApiProperty({ type: String, nullable: true, example: 'mm[Hg]' })
  unit!: string | null;

  @ApiProperty({ format: 'date-time', description: "The interval's beginning" })
  timestamp!: string;

  @ApiPropertyOptional()
  avg?: number;

  @ApiPropertyOptional()
  min?: number;

  @ApiPropertyOptional()
  max?: number;

  @ApiPropertyOptional()
  count?: number;
}

/** A page of readings. */
export class ReadingPage {
  @ApiProperty({ example: 'device_123' })
  device_id!: string;

  @ApiProperty({ type: [ReadingView] })
  data!: ReadingView[];

  @ApiProperty({ type: String, nullable: true, description: 'null at the end' })
  next_cursor!: string | null;
}

/** A page of intervals. */
export class BucketPage {
  @ApiProperty({ example: 'device_123' })
  device_id!: string;

  @ApiProperty({ type: [BucketView] })
  data!: BucketView[];

  @ApiProperty({ type: String, nullable: true, description: 'null at the end' })
  next_cursor!: string | null;
}

/** The newest reading of each metric. */
export class LatestReadings {
  @ApiProperty({ example: 'device_123' })
  device_id!: string;

  @ApiProperty({ type: [ReadingView] })
  data!: ReadingView[];
}

export function viewReading(reading: StoredReading): ReadingView {
  return {
    id: reading.id,
    device_id: reading.deviceId,
    metric_type: reading.metricType,
    value: reading.value,
    unit: reading.unit,
    timestamp: reading.timestamp,
    metadata: reading.metadata,
  };
}

export function viewBucket(bucket: Bucket): BucketView {
  return { metric_type: bucket.metricType, unit: bucket.unit, timestamp: bucket.timestamp, ...bucket.values };
}
