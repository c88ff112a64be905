import { Controller, Get, Headers, Res } from '@nestjs/common';
import { ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import { bearerToken, Config, Public, TokenVerifier } from '#platform';
import { VERSION } from '../version.js';
import { ServiceHealth } from './service-health.js';

/** Health over HTTP: for probes, and for people. */
@ApiTags('health')
@Public()
@Controller('health')
export class HealthController {
  constructor(
    private readonly health: ServiceHealth,
    private readonly config: Config,
    private readonly verifier: TokenVerifier,
  ) {}

  @Get()
  @ApiOperation({ summary: 'Basic health', operationId: 'getHealth' })
  @ApiResponse({
    status: 200,
    description:
      'The process serves; degraded when a part it needs is away, or messages have waited for more than 30 s',
  })
  async basic(): Promise<object> {
    return {
      status: (await this.health.isWhole()) ? 'ok' : 'degraded',
      version: VERSION,
      uptime_seconds: Math.floor(process.uptime()),
    };
  }

  @Get('live')
  @ApiOperation({ summary: 'Liveness probe: never looks at dependencies', operationId: 'getLiveness' })
  @ApiResponse({ status: 200 })
  live(): object {
    return { status: 'ok' };
  }

  @Get('ready')
  @ApiOperation({ summary: 'Readiness probe', operationId: 'getReadiness' })
  @ApiResponse({ status: 200, description: 'Database and broker subscription stand' })
  @ApiResponse({ status: 503, description: 'One of them is missing, or the service is stopping' })
  async ready(@Res({ passthrough: true }) response: Response): Promise<object> {
    const { ready, checks } = await this.health.readiness();
    response.status(ready ? 200 : 503);
    return { status: ready ? 'ok' : 'unavailable', checks };
  }

  @Get('detailed')
  @ApiOperation({
    summary: 'Detailed health',
    description: 'In production the details need a token.',
    operationId: 'getDetailedHealth',
  })
  @ApiResponse({ status: 200 })
  @ApiResponse({ status: 503, description: 'A part is down; the body says which' })
  async detailed(
    @Headers('authorization') authorization: string | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<object> {
    const { healthy, body } = await this.health.report();
    response.status(healthy ? 200 : 503);
    if (this.config.production && !(await this.isKnown(authorization)))
      return { status: healthy ? 'ok' : 'error' };
    return { ...body, version: VERSION, uptime_seconds: Math.floor(process.uptime()) };
  }

  private async isKnown(authorization: string | undefined): Promise<boolean> {
    const token = bearerToken(authorization);
    if (token === null) return false;
    return this.verifier.verify(token).then(
      () => true,
      () => false,
    );
  }
}
