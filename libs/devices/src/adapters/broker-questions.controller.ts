import { isIP } from 'node:net';
import { Body, Controller, Headers, HttpCode, HttpStatus, Post, Query, Res } from '@nestjs/common';
import { ApiBearerAuth, ApiBody, ApiOperation, ApiQuery, ApiResponse, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import {
  ApiProblems,
  bearerToken,
  Config,
  Database,
  InvalidTokenError,
  isFromBroker,
  Public,
  sameText,
} from '#platform';
import { RefusedLogins } from '../application/refused-logins.js';
import { mayUseTopic, type TopicAction } from '../domain/topic-rules.js';
import { BrokerAnswer, ConnectQuestion, TopicQuestion } from './broker-questions.dto.js';
import { DeviceAccounts } from './device-accounts.js';

/** mosquitto_broker.h, MOSQ_ACL_*, as mosquitto-go-auth passes them on. */
const ACTIONS_OF_ACC: ReadonlyMap<string, readonly TopicAction[]> = new Map([
  ['1', ['subscribe']],
  ['2', ['publish']],
  ['3', ['publish', 'subscribe']],
  ['4', ['subscribe']],
]);

/**
 * Answers brokers that ask over HTTP who may connect and who may use which topic (BROKER_ACCESS=http): EMQX, its "HTTP
 * service" for authentication and authorization, and mosquitto-go-auth, its HTTP backend with JSON parameters.
 *
 * EMQX takes a status other than 200 for "ask somebody else", and mosquitto-go-auth, unless told to look at the body,
 * takes 200 for "yes". So a refusal is 200 to the one and 403 to the other, and says no in the body to both. Which one
 * asks is told by what only one of them does: EMQX sends a header, and mosquitto-go-auth can't; it has `acc`, not `action`.
 * A question that can't be understood is answered no.
 */
@ApiTags('broker')
@ApiBearerAuth()
@ApiQuery({
  name: 'secret',
  required: false,
  description: 'For brokers that can send no Authorization header',
})
@Public()
@Controller('mqtt')
export class BrokerQuestionsController {
  private readonly accounts: DeviceAccounts;

  constructor(
    private readonly config: Config,
    database: Database,
    private readonly refused: RefusedLogins,
  ) {
    this.accounts = new DeviceAccounts(database);
  }

  @Post('auth')
  @HttpCode(200)
  @ApiOperation({ summary: 'May this client connect?', operationId: 'brokerAuth' })
  @ApiBody({ type: ConnectQuestion })
  @ApiResponse({ status: 200, type: BrokerAnswer })
  @ApiResponse({
    status: 403,
    type: BrokerAnswer,
    description: 'No, for a broker that gave its secret in the query',
  })
  @ApiProblems(400, 401, 413, 415, 503)
  async auth(
    @Body() body: unknown,
    @Query('secret') secret: unknown,
    @Headers('authorization') authorization: string | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<BrokerAnswer> {
    const byHeader = this.admit(authorization, secret);
    const { username, password, clientid, peerhost } = textsOf(body);
    const isService = this.isService(username);
    const allowed = isService
      ? sameText(password, this.config.mqtt.password ?? '')
      : await this.accounts.check(clientid, username, password);
    if (!allowed) this.refused.note(clientid, username, isIP(peerhost) === 0 ? null : peerhost);
    return answer(response, allowed, allowed && isService, byHeader);
  }

  @Post('acl')
  @HttpCode(200)
  @ApiOperation({ summary: 'May this client use this topic?', operationId: 'brokerAcl' })
  @ApiBody({ type: TopicQuestion })
  @ApiResponse({ status: 200, type: BrokerAnswer })
  @ApiResponse({ status: 403, type: BrokerAnswer, description: 'No, for a broker that asks by acc' })
  @ApiProblems(400, 401, 413, 415, 503)
  async acl(
    @Body() body: unknown,
    @Query('secret') secret: unknown,
    @Headers('authorization') authorization: string | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<BrokerAnswer> {
    this.admit(authorization, secret);
    const { username, clientid, topic, action, acc } = textsOf(body);
    const actions: readonly TopicAction[] =
      action === 'publish' || action === 'subscribe' ? [action] : (ACTIONS_OF_ACC.get(acc) ?? []);
    const isService = this.isService(username);
    const allowed =
      isService ||
      (actions.length > 0 &&
        clientid === username &&
        actions.every((one) => mayUseTopic(this.config.mqtt.topics, username, one, topic)) &&
        (await this.accounts.has(username)));
    return answer(response, allowed, isService, acc === '');
  }

  /** @returns whether the secret came in the header. @throws InvalidTokenError when it is not the right one. */
  private admit(authorization: string | undefined, secret: unknown): boolean {
    if (!isFromBroker(this.config, authorization, secret)) {
      throw new InvalidTokenError('This route needs the secret of the broker (MQTT_HTTP_AUTH_SECRET).');
    }
    return bearerToken(authorization) !== null;
  }

  private isService(username: string): boolean {
    return username !== '' && username === this.config.mqtt.username;
  }
}

function answer(response: Response, allowed: boolean, isSuperuser: boolean, byBody: boolean): BrokerAnswer {
  if (!allowed && !byBody) response.status(HttpStatus.FORBIDDEN);
  return {
    result: allowed ? 'allow' : 'deny',
    is_superuser: isSuperuser,
    ok: allowed,
    error: allowed ? '' : 'refused',
  };
}

/** Brokers add fields of their own, and templates make texts of everything: what is missing is the empty text. */
function textsOf(
  body: unknown,
): Record<'username' | 'password' | 'clientid' | 'peerhost' | 'topic' | 'action' | 'acc', string> {
  const fields: Readonly<Record<string, unknown>> =
    typeof body === 'object' && body !== null ? { ...body } : {};
  const text = (name: string): string => {
    const value = fields[name];
    return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
  };
  return {
    username: text('username'),
    password: text('password'),
    clientid: text('clientid'),
    peerhost: text('peerhost'),
    topic: text('topic'),
    action: text('action'),
    acc: text('acc'),
  };
}
