import { Controller, Get, Param, Query } from '@nestjs/common';
import { ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger';
import { Principal } from '#kernel';
import { ApiProblems, Caller, cutPage, decodeCursor, PageQuery, RequireScope } from '#platform';
import { PresenceHistory } from '../application/presence-history.js';
import { DevicePath } from './device.dto.js';
import { StatusHistoryPage, viewChange } from './status-history.dto.js';

/** When devices were online, over HTTP. */
@ApiTags('devices')
@Controller('devices/:device_id/status-history')
export class StatusHistoryController {
  constructor(private readonly history: PresenceHistory) {}

  @Get()
  @RequireScope('devices:read')
  @ApiOperation({
    summary: 'When a device came online and went offline, and why, newest first',
    operationId: 'getStatusHistory',
  })
  @ApiResponse({ status: 200, type: StatusHistoryPage })
  @ApiProblems(400, 401, 403, 404, 503)
  async list(
    @Param() path: DevicePath,
    @Query() query: PageQuery,
    @Caller() caller: Principal,
  ): Promise<StatusHistoryPage> {
    const [before] = query.cursor === undefined ? [null] : decodeCursor(query.cursor, ['number']);
    const changes = await this.history.page(path.device_id, before, query.limit + 1, caller);
    const { page, next_cursor } = cutPage(changes, query.limit, (change) => [change.id]);
    return { data: page.map(viewChange), next_cursor };
  }
}
