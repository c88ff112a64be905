import { Body, Controller, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger';
import { parseDuration, Principal, type FieldError } from '#kernel';
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
import { RESERVED_PARAMETERS } from '../domain/command.js';
import { CommandPage, CommandPath, CommandView, SendCommand, viewCommand } from './command.dto.js';

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
  @ApiOperation({ summary: 'Send a command to a device', operationId: 'sendCommand' })
  @ApiResponse({ status: 202, type: CommandView })
  @ApiProblems(400, 401, 403, 404, 409, 413, 415, 503)
  async send(
    @Param() path: DevicePath,
    @Body() body: SendCommand,
    @Caller() caller: Principal,
  ): Promise<CommandView> {
    const parameters = body.parameters ?? {};
    const errors: FieldError[] = RESERVED_PARAMETERS.filter((name) => Object.hasOwn(parameters, name)).map(
      (name) => ({
        field: `parameters.${name}`,
        message: 'is a name the command itself uses',
      }),
    );
    const expiresIn =
      body.expires_in === undefined ? this.config.commandExpiresAfter : parseDuration(body.expires_in);
    if (expiresIn === null)
      errors.push({
        field: 'expires_in',
        message: 'must be a duration such as 30s, 10m or 1h, at most 36525d',
      });
    if (errors.length > 0 || expiresIn === null) throw validationFailed(errors);
    const order = { deviceId: path.device_id, command: body.command, parameters, expiresIn };
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
