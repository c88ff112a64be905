import { Controller, Get } from '@nestjs/common';
import { ApiOperation, ApiProperty, ApiResponse, ApiTags, type SchemaObject } from '@nestjs/swagger';
import { ApiProblems, RequireScope } from '#platform';
import type { DeviceType } from '#devices';
import { COMMAND_CATALOGUE } from '../domain/command-catalogue.js';
import { parametersSchema } from './command-schemas.js';

/** A command that devices of a type take. */
class CommandDescription {
  @ApiProperty({ example: 'start_monitoring' })
  command!: string;

  @ApiProperty({ example: 'Measure again and again' })
  description!: string;

  @ApiProperty({
    type: 'object',
    additionalProperties: true,
    description: 'JSON Schema of `parameters`: names, types, units, ranges',
  })
  parameters!: SchemaObject;
}

/** A type of device and what it can be told to do. */
class DeviceTypeView {
  @ApiProperty({ enum: Object.keys(COMMAND_CATALOGUE), example: 'blood_pressure_monitor' })
  type!: DeviceType;

  @ApiProperty({ type: [CommandDescription] })
  commands!: CommandDescription[];
}

/** All types of devices. */
class DeviceTypes {
  @ApiProperty({ type: [DeviceTypeView] })
  data!: DeviceTypeView[];
}

const TYPES: DeviceTypes = {
  data: Object.entries(COMMAND_CATALOGUE).map(([type, commands]) => ({
    type: type as DeviceType,
    commands: Object.entries(commands).map(([command, spec]) => ({
      command,
      description: spec.description,
      parameters: parametersSchema(spec),
    })),
  })),
};

/** What there is to know of types of devices. */
@ApiTags('devices')
@Controller('device-types')
export class DeviceTypesController {
  @Get()
  @RequireScope('devices:read')
  @ApiOperation({
    summary: 'The types of devices, and the commands each of them takes',
    operationId: 'listDeviceTypes',
  })
  @ApiResponse({ status: 200, type: DeviceTypes })
  @ApiProblems(400, 401, 403, 503)
  list(): DeviceTypes {
    return TYPES;
  }
}
