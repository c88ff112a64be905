import { Body, Controller, Get, Headers, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiBody, ApiHeader, ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger';
import { parseDuration, Principal } from '#kernel';
import {
  ApiProblems,
  Caller,
  Config,
  decodeCursor,
  cutPage,
  PageQuery,
  RequireScope,
  validationFailed,
} from '#platform';
import { DevicePath } from '#devices';
import { CommandDesk } from '../application/command-desk.js';
import { ORDER_SCHEMA } from './command-schemas.js';
import { CommandPage, CommandPath, CommandView, SendCommand, viewCommand } from './command.dto.js';

const IDEMPOTENCY_KEY = 'Idempotency-Key';
/** draft-ietf-httpapi-idempotency-key-header, section 2.1: a structured string (RFC 8941, 3.3.3); its quotes may be left out. */
const KEY = /^(?:"([\x20-\x21\x23-\x5b\x5d-\x7e]{1,255})"|([\x21\x23-\x5b\x5d-\x7e]{1,255}))$/;

/** Commands to devices over HTTP. */
@ApiTags('commands')
@Controller('devices/:device_id')
export class CommandsController {
  constructor(
    private readonly desk: CommandDesk,
    private readonly config: Config,
  ) {}

  @Post('command')
  @HttpCode(202)
  @RequireScope('commands:send')
  @ApiOperation({
    summary: 'Send a command to a device',
    operationId: 'sendCommand',
    description:
      'The command is stored, and sent when the device is online: in the order of the orders, no more than 10 that the ' +
      'device has not answered at a time. Which commands a type of device takes is listed at `/device-types`.',
  })
  @ApiBody({ schema: ORDER_SCHEMA })
  @ApiHeader({
    name: IDEMPOTENCY_KEY,
    required: false,
    description:
      'A name for this order, unique for the caller and the device, for as long as the command is in the ledger: the same ' +
      'order under the same key is answered with the command it made the first time; another order under it, such as one for another patient, is refused ' +
      '(422 `idempotency_key_reused`). A token without `sub` can not use it (422 `idempotency_key_without_subject`). 1 to ' +
      '255 printable ASCII characters, in quotes or not.',
    schema: {
      type: 'string',
      minLength: 1,
      maxLength: 257,
      example: '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
    },
  })
  @ApiResponse({ status: 202, type: CommandView })
  @ApiProblems(400, 401, 403, 404, 409, 413, 415, 422, 503)
  async send(
    @Param() path: DevicePath,
    @Body() body: SendCommand,
    @Headers(IDEMPOTENCY_KEY.toLowerCase()) key: string | undefined,
    @Caller() caller: Principal,
  ): Promise<CommandView> {
    const given = body.expires_in ?? null;
    const expiresIn = given === null ? this.config.commandExpiresAfter : parseDuration(given);
    if (expiresIn === null) {
      const message = 'must be a duration such as 30s, 10m or 1h, at most 36525d';
      throw validationFailed([{ field: 'expires_in', message }]);
    }
    const order = {
      deviceId: path.device_id,
      command: body.command,
      parameters: body.parameters ?? {},
      expiresIn,
      idempotencyKey: key === undefined ? null : readKey(key),
    };
    return viewCommand(await this.desk.order(order, caller));
  }

  @Get('commands')
  @RequireScope('commands:read')
  @ApiOperation({ summary: "A device's commands, newest first", operationId: 'listCommands' })
  @ApiResponse({ status: 200, type: CommandPage })
  @ApiProblems(400, 401, 403, 404, 503)
  async list(
    @Param() path: DevicePath,
    @Query() query: PageQuery,
    @Caller() caller: Principal,
  ): Promise<CommandPage> {
    const [beforeId] = query.cursor === undefined ? [null] : decodeCursor(query.cursor, ['number']);
    const commands = await this.desk.list(path.device_id, beforeId, query.limit + 1, caller);
    const { page, next_cursor } = cutPage(commands, query.limit, (command) => [command.id]);
    return { data: page.map(viewCommand), next_cursor };
  }

  @Get('commands/:command_id')
  @RequireScope('commands:read')
  @ApiOperation({ summary: 'One command', operationId: 'getCommand' })
  @ApiResponse({ status: 200, type: CommandView })
  @ApiProblems(400, 401, 403, 404, 503)
  async get(@Param() path: CommandPath, @Caller() caller: Principal): Promise<CommandView> {
    return viewCommand(await this.desk.get(path.device_id, path.command_id, caller));
  }

  @Post('commands/:command_id/cancel')
  @HttpCode(200)
  @RequireScope('commands:send')
  @ApiOperation({ summary: 'Cancel a command that is still queued', operationId: 'cancelCommand' })
  @ApiResponse({ status: 200, type: CommandView })
  @ApiProblems(400, 401, 403, 404, 409, 415, 503)
  async cancel(@Param() path: CommandPath, @Caller() caller: Principal): Promise<CommandView> {
    return viewCommand(await this.desk.cancel(path.device_id, path.command_id, caller));
  }
}

/** @throws DomainError invalid/validation_failed */
function readKey(header: string): string {
  const [, quoted, bare] = KEY.exec(header) ?? [];
  const key = quoted ?? bare;
  if (key !== undefined) return key;
  const message = 'must be 1 to 255 printable ASCII characters';
  throw validationFailed([{ field: IDEMPOTENCY_KEY, message }]);
}
