import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query } from '@nestjs/common';
import { ApiExtraModels, ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger';
import { Principal } from '#kernel';
import { ApiProblems, Caller, decodeCursor, cutPage, RequireScope, validationFailed } from '#platform';
import { DeviceRegistry } from '../application/device-registry.js';
import {
  AmendDevice,
  CredentialsView,
  DevicePage,
  DevicePath,
  DeviceView,
  ListDevices,
  RegisterDevice,
  RegistrationView,
  viewCredentials,
  viewDevice,
} from './device.dto.js';
import { ServiceNames } from './service-names.js';

/** The device registry over HTTP. */
@ApiTags('devices')
@ApiExtraModels(RegistrationView)
@Controller('devices')
export class DevicesController {
  constructor(
    private readonly registry: DeviceRegistry,
    private readonly serviceNames: ServiceNames,
  ) {}

  @Post('register')
  @HttpCode(201)
  @RequireScope('devices:write')
  @ApiOperation({ summary: 'Register a medical device', operationId: 'registerDevice' })
  @ApiResponse({ status: 201, type: RegistrationView })
  @ApiProblems(400, 401, 403, 409, 413, 415, 503)
  async register(@Body() body: RegisterDevice, @Caller() caller: Principal): Promise<RegistrationView> {
    if (await this.serviceNames.include(body.device_id)) {
      throw validationFailed([
        { field: 'device_id', message: "is a name of the service's own at the broker" },
      ]);
    }
    const details = {
      deviceId: body.device_id,
      patientId: body.patient_id,
      type: body.type,
      model: body.model ?? null,
      serialNumber: body.serial_number ?? null,
    };
    const { device, credentials } = await this.registry.register(details, caller);
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

  @Patch(':device_id')
  @RequireScope('devices:write')
  @ApiOperation({
    summary: 'Assign a device to another patient, or correct what is known of it',
    operationId: 'updateDevice',
  })
  @ApiResponse({ status: 200, type: DeviceView })
  @ApiProblems(400, 401, 403, 404, 409, 413, 415, 503)
  async amend(
    @Param() path: DevicePath,
    @Body() body: AmendDevice,
    @Caller() caller: Principal,
  ): Promise<DeviceView> {
    const details = {
      ...(body.patient_id !== undefined && { patientId: body.patient_id }),
      ...(body.model !== undefined && { model: body.model }),
      ...(body.serial_number !== undefined && { serialNumber: body.serial_number }),
    };
    return viewDevice(await this.registry.amend(path.device_id, details, caller));
  }

  @Delete(':device_id')
  @HttpCode(204)
  @RequireScope('devices:write')
  @ApiOperation({
    summary: 'Decommission a device for good; its readings are kept',
    description:
      'Its account at the broker is revoked and its session ended; doing it again changes nothing. Its id stays taken, since its history stands under it.',
    operationId: 'decommissionDevice',
  })
  @ApiResponse({ status: 204 })
  @ApiProblems(400, 401, 403, 404, 503)
  async decommission(@Param() path: DevicePath, @Caller() caller: Principal): Promise<void> {
    await this.registry.decommission(path.device_id, caller);
  }

  @Post(':device_id/credentials')
  @HttpCode(200)
  @RequireScope('devices:write')
  @ApiOperation({
    summary: "Replace a device's account at the broker; the old one stops working at once",
    operationId: 'rotateCredentials',
  })
  @ApiResponse({ status: 200, type: CredentialsView })
  @ApiProblems(400, 401, 403, 404, 409, 415, 503)
  async rotate(@Param() path: DevicePath, @Caller() caller: Principal): Promise<CredentialsView> {
    return viewCredentials(await this.registry.rotateCredentials(path.device_id, caller));
  }
}
