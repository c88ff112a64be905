import { Controller, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiExtraModels, ApiOperation, ApiResponse, ApiTags, getSchemaPath } from '@nestjs/swagger';
import { Principal } from '#kernel';
import {
  ApiProblems,
  Caller,
  cursorInstant,
  decodeCursor,
  encodeCursor,
  readPeriod,
  RequireScope,
} from '#platform';
import { QuarantineDesk } from '../application/quarantine-desk.js';
import type { QuarantinePosition } from '../ports/rejected-message.repository.js';
import {
  ListRejectedMessages,
  RejectedMessagePage,
  RejectedMessagePath,
  RetryView,
  StillRejectedProblem,
  viewRejectedMessage,
} from './rejected-message.dto.js';

/** The quarantine over HTTP. */
@ApiTags('rejected messages')
@ApiExtraModels(StillRejectedProblem)
@Controller('rejected-messages')
export class RejectedMessagesController {
  constructor(private readonly desk: QuarantineDesk) {}

  @Get()
  @RequireScope('admin')
  @ApiOperation({
    summary: 'Messages that could not be taken in, newest first',
    operationId: 'listRejectedMessages',
  })
  @ApiResponse({ status: 200, type: RejectedMessagePage })
  @ApiProblems(400, 401, 403, 503)
  async list(
    @Query() query: ListRejectedMessages,
    @Caller() caller: Principal,
  ): Promise<RejectedMessagePage> {
    const filter = {
      ...(query.device_id !== undefined && { deviceId: query.device_id }),
      ...(query.reason !== undefined && { reason: query.reason }),
      ...readPeriod(query),
    };
    const { messages, next } = await this.desk.page(filter, readPosition(query.cursor), query.limit, caller);
    return {
      data: messages.map(viewRejectedMessage),
      next_cursor: next && encodeCursor([next.receivedAt, next.id]),
    };
  }

  @Post(':id/retry')
  @HttpCode(200)
  @RequireScope('admin')
  @ApiOperation({
    summary: 'Try a rejected measurement again',
    description:
      'It is decoded by the registry and the catalogue as they are now. Stored, it leaves the quarantine; ' +
      'rejected again, it stays with the new reason.',
    operationId: 'retryRejectedMessage',
  })
  @ApiResponse({ status: 200, type: RetryView })
  @ApiProblems(400, 401, 403, 404, 415, 503)
  @ApiResponse({
    status: 409,
    description: 'still_rejected, or not_retryable: it is no measurement',
    content: { 'application/problem+json': { schema: { $ref: getSchemaPath(StillRejectedProblem) } } },
  })
  async retry(@Param() path: RejectedMessagePath, @Caller() caller: Principal): Promise<RetryView> {
    const id = Number(path.id);
    const { deviceId, readings } = await this.desk.retry(id, caller);
    return { id, status: 'stored', device_id: deviceId, readings };
  }
}

function readPosition(cursor: string | undefined): QuarantinePosition | null {
  if (cursor === undefined) return null;
  const [receivedAt, id] = decodeCursor(cursor, ['string', 'number']);
  return { receivedAt: cursorInstant(receivedAt), id };
}
