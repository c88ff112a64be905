import { Body, Controller, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiExtraModels, ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger';
import { Principal } from '#kernel';
import { ApiProblems, Caller, decodeCursor, cutPage, RequireScope } from '#platform';
import { DeviceRegistry } from '../application/device-registry.js';
import {
  DevicePage,
  DevicePath,
  DeviceView,
  ListDevices,
  RegisterDevice,
  RegistrationView,
  viewCredentials,
  viewDevice,
} from './device.dto.js';

/** The device registry over HTTP. */
@ApiTags('devices')
@ApiExtraModels(RegistrationView)
@Controller('devices')
export class DevicesController {
  constructor(private readonly registry: DeviceRegistry) {}

  @Post('register')
  @HttpCode(201)
  @RequireScope('devices:write')
  @ApiOperation({ summary: 'Register a medical device', operationId: 'registerDevice' })
  @ApiResponse({ status: 201, type: RegistrationView })
  @ApiProblems(400, 401, 403, 409, 413, 415, 503)
  async register(@Body() body: RegisterDevice, @Caller() caller: Principal): Promise<RegistrationView> {
    const { device, credentials } = await this.registry.register({
      deviceId: body.device_id,
      tenant: caller.tenant,
      patientId: body.patient_id,
      type: body.type,
      model: body.model ?? null,
      serialNumber: body.serial_number ?? null,
    });
    return { ...viewDevice(device), ...(credentials && { credentials: viewCredentials(credentials) }) };
  }

  @Get()
  @RequireScope('devices:read')
  @ApiOperation({ summary: 'List devices in the order of registration', operationId: 'listDevices' })
  @ApiResponse({ status: 200, type: DevicePage })
  @ApiProblems(400, 401, 403, 503)
  async list(@Query() query: ListDevices, @Caller() caller: Principal): Promise<DevicePage> {
    const [afterId] = query.cursor === undefined ? [0] : decodeCursor(query.cursor, ['number']);
    const filter = {
      ...(query.type !== undefined && { type: query.type }),
      ...(query.status !== undefined && { status: query.status }),
      ...(query.patient_id !== undefined && { patientId: query.patient_id }),
    };
    const devices = await this.registry.list(filter, afterId, query.limit + 1, caller);
    const { page, next_cursor } = cutPage(devices, query.limit, (device) => [device.id]);
    return { data: page.map(viewDevice), next_cursor };
  }

  @Get(':device_id')
  @RequireScope('devices:read')
  @ApiOperation({ summary: 'One device', operationId: 'getDevice' })
  @ApiResponse({ status: 200, type: DeviceView })
  @ApiProblems(400, 401, 403, 404, 503)
  async get(@Param() path: DevicePath, @Caller() caller: Principal): Promise<DeviceView> {
    return viewDevice(await this.registry.get(path.device_id, caller));
  }
}
