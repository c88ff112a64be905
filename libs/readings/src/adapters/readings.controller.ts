import { Controller, Get, Param, Query, Req, StreamableFile } from '@nestjs/common';
import {
  ApiExtraModels,
  ApiOperation,
  ApiProduces,
  ApiResponse,
  ApiTags,
  getSchemaPath,
} from '@nestjs/swagger';
import type { Request } from 'express';
import { parseDuration, Principal, type FieldError } from '#kernel';
import {
  ApiProblems,
  Caller,
  cursorInstant,
  cutPage,
  decodeCursor,
  readPeriod,
  RequireScope,
  validationFailed,
} from '#platform';
import { DevicePath } from '#devices';
import { ReadingHistory } from '../application/reading-history.js';
import { expandMetricTypes } from '../domain/catalogue.js';
import { AGGREGATES, type Aggregate, type ReadingFilter } from '../ports/reading.repository.js';
import { toCsv, toNdjson } from './reading-export.js';
import {
  BucketPage,
  HistoryQuery,
  LatestReadings,
  ReadingPage,
  viewBucket,
  viewReading,
} from './reading.dto.js';

const JSON_TYPE = 'application/json';
const CSV_TYPE = 'text/csv';
const NDJSON_TYPE = 'application/x-ndjson';

/** A device's measurements over HTTP. */
@ApiTags('readings')
@ApiExtraModels(ReadingPage, BucketPage)
@Controller('devices/:device_id')
export class ReadingsController {
  constructor(private readonly history: ReadingHistory) {}

  @Get('data')
  @RequireScope('readings:read')
  @ApiOperation({
    summary: 'Historical data of a device, newest first',
    description: 'With Accept: text/csv or application/x-ndjson the whole range is streamed.',
    operationId: 'getDeviceData',
  })
  @ApiProduces(JSON_TYPE, CSV_TYPE, NDJSON_TYPE)
  @ApiResponse({
    status: 200,
    content: {
      [JSON_TYPE]: {
        schema: { anyOf: [{ $ref: getSchemaPath(ReadingPage) }, { $ref: getSchemaPath(BucketPage) }] },
      },
      [CSV_TYPE]: { schema: { type: 'string' } },
      [NDJSON_TYPE]: { schema: { type: 'string' } },
    },
  })
  @ApiProblems(400, 401, 403, 404, 503)
  async data(
    @Param() path: DevicePath,
    @Query() query: HistoryQuery,
    @Req() request: Request,
    @Caller() caller: Principal,
  ): Promise<ReadingPage | BucketPage | StreamableFile> {
    const filter = readFilter(path.device_id, query);
    const format = request.accepts([JSON_TYPE, CSV_TYPE, NDJSON_TYPE]);
    if (format === CSV_TYPE || format === NDJSON_TYPE) {
      requireWholeRange(query);
      const readings = await this.history.stream(filter, caller);
      return new StreamableFile(format === CSV_TYPE ? toCsv(readings) : toNdjson(readings), {
        type: `${format}; charset=utf-8`,
      });
    }
    if (query.interval !== undefined || query.aggregate !== undefined)
      return this.buckets(filter, query, caller);
    if (query.max_points !== undefined) {
      const readings = await this.history.downsample(filter, query.max_points, caller);
      return { device_id: path.device_id, data: readings.map(viewReading), next_cursor: null };
    }
    return this.page(filter, query, caller);
  }

  @Get('latest')
  @RequireScope('readings:read')
  @ApiOperation({ summary: 'The newest reading of each metric', operationId: 'getLatestReadings' })
  @ApiResponse({ status: 200, type: LatestReadings })
  @ApiProblems(400, 401, 403, 404, 503)
  async latest(@Param() path: DevicePath, @Caller() caller: Principal): Promise<LatestReadings> {
    const readings = await this.history.latest(path.device_id, caller);
    return { device_id: path.device_id, data: readings.map(viewReading) };
  }

  private async page(filter: ReadingFilter, query: HistoryQuery, caller: Principal): Promise<ReadingPage> {
    let after: { timestamp: string; id: number } | null = null;
    if (query.cursor !== undefined) {
      const [timestamp, id] = decodeCursor(query.cursor, ['string', 'number']);
      after = { timestamp: cursorInstant(timestamp), id };
    }
    const readings = await this.history.page(filter, after, query.limit + 1, caller);
    const { page, next_cursor } = cutPage(readings, query.limit, ({ timestamp, id }) => [timestamp, id]);
    return { device_id: filter.deviceId, data: page.map(viewReading), next_cursor };
  }

  private async buckets(filter: ReadingFilter, query: HistoryQuery, caller: Principal): Promise<BucketPage> {
    const intervalMs = parseDuration(query.interval ?? '');
    const aggregates = (query.aggregate ?? AGGREGATES.join(',')).split(',');
    const errors: FieldError[] = [];
    if (intervalMs === null)
      errors.push({
        field: 'interval',
        message: 'must be a duration such as 30s, 5m, 1h or 1d, at most 36525d',
      });
    if (!aggregates.every(isAggregate))
      errors.push({ field: 'aggregate', message: `must be of ${AGGREGATES.join(', ')}` });
    if (query.max_points !== undefined)
      errors.push({ field: 'max_points', message: 'does not go with interval' });
    if (errors.length > 0 || intervalMs === null) throw validationFailed(errors);
    let after: { timestamp: string; metricType: string } | null = null;
    if (query.cursor !== undefined) {
      const [timestamp, metricType] = decodeCursor(query.cursor, ['string', 'string']);
      after = { timestamp: cursorInstant(timestamp), metricType };
    }
    const wanted = aggregates.filter(isAggregate);
    const buckets = await this.history.aggregate(filter, intervalMs, wanted, after, query.limit + 1, caller);
    const { page, next_cursor } = cutPage(buckets, query.limit, ({ timestamp, metricType }) => [
      timestamp,
      metricType,
    ]);
    return { device_id: filter.deviceId, data: page.map(viewBucket), next_cursor };
  }
}

function readFilter(deviceId: string, query: HistoryQuery): ReadingFilter {
  return {
    deviceId,
    order: query.order,
    ...(query.metric_type !== undefined && { metricTypes: expandMetricTypes(query.metric_type.split(',')) }),
    ...readPeriod(query),
  };
}

/** An export is the whole range: parameters that say otherwise are refused rather than passed over. */
function requireWholeRange(query: HistoryQuery): void {
  const stray = (['cursor', 'interval', 'aggregate', 'max_points'] as const).filter(
    (field) => query[field] !== undefined,
  );
  if (stray.length > 0) {
    throw validationFailed(stray.map((field) => ({ field, message: 'does not go with an export' })));
  }
}

function isAggregate(name: string): name is Aggregate {
  return (AGGREGATES as readonly string[]).includes(name);
}
