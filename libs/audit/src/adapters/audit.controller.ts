import { Controller, Get, Query } from '@nestjs/common';
import { ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger';
import { Principal } from '#kernel';
import { ApiProblems, Caller, cutPage, decodeCursor, readPeriod, RequireScope } from '#platform';
import { AuditDesk } from '../application/audit-desk.js';
import { AuditPage, ListAudit, viewAudit } from './audit.dto.js';

/** The audit log over HTTP. */
@ApiTags('audit')
@Controller('audit')
export class AuditController {
  constructor(private readonly desk: AuditDesk) {}

  @Get()
  @RequireScope('admin')
  @ApiOperation({ summary: 'Who did what to whose data, newest first', operationId: 'listAudit' })
  @ApiResponse({ status: 200, type: AuditPage })
  @ApiProblems(400, 401, 403, 503)
  async list(@Query() query: ListAudit, @Caller() caller: Principal): Promise<AuditPage> {
    const [before] = query.cursor === undefined ? [null] : decodeCursor(query.cursor, ['number']);
    const filter = {
      ...(query.actor !== undefined && { actor: query.actor }),
      ...(query.action !== undefined && { action: query.action }),
      ...(query.device_id !== undefined && { deviceId: query.device_id }),
      ...(query.patient_id !== undefined && { patientId: query.patient_id }),
      ...readPeriod(query),
    };
    const records = await this.desk.page(filter, before, query.limit + 1, caller);
    const { page, next_cursor } = cutPage(records, query.limit, ({ id }) => [id]);
    return { data: page.map(viewAudit), next_cursor };
  }
}
