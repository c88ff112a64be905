import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query } from '@nestjs/common';
import { ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger';
import { Principal } from '#kernel';
import { ApiProblems, Caller, cutPage, decodeCursor, PageQuery, readPeriod, RequireScope } from '#platform';
import { WebhookDesk } from '../application/webhook-desk.js';
import { DELIVERY_STATES } from '../domain/delivery.js';
import type { WebhookChange } from '../domain/webhook.js';
import {
  ChangeWebhook,
  CreateWebhook,
  DeliveryPage,
  ListDeliveries,
  NewWebhookView,
  ReplayDeliveries,
  ReplayView,
  viewDelivery,
  viewDetail,
  viewReplay,
  viewWebhook,
  WebhookDetailView,
  WebhookPage,
  WebhookPath,
  WebhookView,
} from './webhook.dto.js';

/** Webhooks over HTTP. */
@ApiTags('webhooks')
@Controller('webhooks')
export class WebhooksController {
  constructor(private readonly desk: WebhookDesk) {}

  @Post()
  @RequireScope('admin')
  @ApiOperation({
    summary: 'Have events sent to an address',
    operationId: 'createWebhook',
    description:
      "Events of the caller's tenant are sent as CloudEvents 1.0 (`application/cloudevents+json`), signed as Standard " +
      'Webhooks 1.0.0 says: `webhook-signature` is `v1,` and the Base64 of HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`. ' +
      'An answer other than 2xx is a failure, which is tried again; 410 switches the webhook off. At least once: a receiver ' +
      'knows a repeat by its `webhook-id`. Those of one device come in order. Private addresses are refused unless allowed.',
  })
  @ApiResponse({ status: 201, type: NewWebhookView })
  @ApiProblems(400, 401, 403, 409, 413, 415, 503)
  async create(@Body() body: CreateWebhook, @Caller() caller: Principal): Promise<NewWebhookView> {
    const order = {
      url: body.url,
      events: body.events ?? null,
      deviceIds: body.device_ids ?? null,
      patientIds: body.patient_ids ?? null,
      metricTypes: body.metric_types ?? null,
      active: body.active ?? true,
      secret: body.secret ?? null,
    };
    const { webhook, secret } = await this.desk.create(order, caller);
    return { ...viewWebhook(webhook), secret };
  }

  @Get()
  @RequireScope('admin')
  @ApiOperation({
    summary: "The tenant's webhooks, in the order in which they were made",
    operationId: 'listWebhooks',
  })
  @ApiResponse({ status: 200, type: WebhookPage })
  @ApiProblems(400, 401, 403, 503)
  async list(@Query() query: PageQuery, @Caller() caller: Principal): Promise<WebhookPage> {
    const [after] = query.cursor === undefined ? [null] : decodeCursor(query.cursor, ['number']);
    const webhooks = await this.desk.list(after, query.limit + 1, caller);
    const { page, next_cursor } = cutPage(webhooks, query.limit, ({ place }) => [place]);
    return { data: page.map(({ webhook }) => viewWebhook(webhook)), next_cursor };
  }

  @Get(':webhook_id')
  @RequireScope('admin')
  @ApiOperation({ summary: 'One webhook, and how it does', operationId: 'getWebhook' })
  @ApiResponse({ status: 200, type: WebhookDetailView })
  @ApiProblems(400, 401, 403, 404, 503)
  async get(@Param() path: WebhookPath, @Caller() caller: Principal): Promise<WebhookDetailView> {
    const { webhook, status } = await this.desk.get(path.webhook_id, caller);
    return viewDetail(webhook, status);
  }

  @Patch(':webhook_id')
  @RequireScope('admin')
  @ApiOperation({
    summary: 'Change address, filter or secret of a webhook, or switch it on or off',
    operationId: 'changeWebhook',
    description:
      'What is pending goes to the new address. Switched off, a webhook is queued nothing, and what is pending waits until it is ' +
      'switched on again, or given up.',
  })
  @ApiResponse({ status: 200, type: WebhookView })
  @ApiProblems(400, 401, 403, 404, 413, 415, 503)
  async change(
    @Param() path: WebhookPath,
    @Body() body: ChangeWebhook,
    @Caller() caller: Principal,
  ): Promise<WebhookView> {
    const change: WebhookChange = {
      ...(body.url !== undefined && { url: body.url }),
      ...(body.events !== undefined && { events: body.events }),
      ...(body.device_ids !== undefined && { deviceIds: body.device_ids }),
      ...(body.patient_ids !== undefined && { patientIds: body.patient_ids }),
      ...(body.metric_types !== undefined && { metricTypes: body.metric_types }),
      ...(body.active !== undefined && { active: body.active }),
    };
    return viewWebhook(await this.desk.change(path.webhook_id, change, body.secret, caller));
  }

  @Delete(':webhook_id')
  @HttpCode(204)
  @RequireScope('admin')
  @ApiOperation({ summary: 'Remove a webhook, with all that is pending', operationId: 'deleteWebhook' })
  @ApiResponse({ status: 204 })
  @ApiProblems(400, 401, 403, 404, 503)
  async remove(@Param() path: WebhookPath, @Caller() caller: Principal): Promise<void> {
    await this.desk.remove(path.webhook_id, caller);
  }

  @Get(':webhook_id/deliveries')
  @RequireScope('admin')
  @ApiOperation({
    summary: 'What is pending, was delivered, or was given up, newest first',
    operationId: 'listWebhookDeliveries',
  })
  @ApiResponse({ status: 200, type: DeliveryPage })
  @ApiProblems(400, 401, 403, 404, 503)
  async deliveries(
    @Param() path: WebhookPath,
    @Query() query: ListDeliveries,
    @Caller() caller: Principal,
  ): Promise<DeliveryPage> {
    const [before] = query.cursor === undefined ? [null] : decodeCursor(query.cursor, ['number']);
    const states = query.state === undefined ? DELIVERY_STATES : [query.state];
    const found = await this.desk.deliveriesOf(path.webhook_id, states, before, query.limit + 1, caller);
    const { page, next_cursor } = cutPage(found, query.limit, ({ id }) => [id]);
    return { data: page.map(viewDelivery), next_cursor };
  }

  @Post(':webhook_id/replay')
  @HttpCode(200)
  @RequireScope('admin')
  @ApiOperation({
    summary: 'Send again what was delivered or given up',
    operationId: 'replayWebhook',
    description:
      'Of what is still kept, oldest first, under the same `webhook-id`. As many as the queue has room for: `next_cursor` goes on ' +
      'with the rest.',
  })
  @ApiResponse({ status: 200, type: ReplayView })
  @ApiProblems(400, 401, 403, 404, 409, 413, 415, 503)
  async replay(
    @Param() path: WebhookPath,
    @Body() body: ReplayDeliveries,
    @Caller() caller: Principal,
  ): Promise<ReplayView> {
    const { from = null, to = null } = readPeriod(body);
    const selection = { states: body.states ?? (['delivered', 'dead'] as const), from, to };
    return viewReplay(await this.desk.replay(path.webhook_id, selection, body.cursor ?? null, caller));
  }
}
