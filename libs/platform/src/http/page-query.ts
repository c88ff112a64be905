import { ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsInt, IsOptional, IsString, Length, Max, Min } from 'class-validator';

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;
const LIMIT = { message: `limit must be a whole number from 1 to ${MAX_LIMIT}` };

/** What every list takes. */
export class PageQuery {
  @ApiPropertyOptional({ type: 'integer', minimum: 1, maximum: MAX_LIMIT, default: DEFAULT_LIMIT })
  @IsOptional()
  @Type(() => Number)
  @IsInt(LIMIT)
  @Min(1, LIMIT)
  @Max(MAX_LIMIT, LIMIT)
  limit: number = DEFAULT_LIMIT;

  @ApiPropertyOptional({ description: "The last answer's next_cursor" })
  @IsOptional()
  @IsString()
  @Length(1, 1_000)
  cursor?: string;
}

/** What lists take that have a time: see `readPeriod`. */
export class PeriodQuery extends PageQuery {
  @ApiPropertyOptional({ format: 'date-time', description: 'RFC 3339 with offset, included' })
  @IsOptional()
  @IsString()
  @Length(1, 40)
  from?: string;

  @ApiPropertyOptional({ format: 'date-time', description: 'RFC 3339 with offset, not included' })
  @IsOptional()
  @IsString()
  @Length(1, 40)
  to?: string;
}
