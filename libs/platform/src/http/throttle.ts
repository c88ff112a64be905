import type { IncomingMessage } from 'node:http';
import { HttpException } from '@nestjs/common';
import type { NextFunction, Request, RequestHandler } from 'express';
import { ipKeyGenerator, MemoryStore, rateLimit, type AugmentedRequest } from 'express-rate-limit';
import type { AuditEntry, AuditTrail, Principal } from '#kernel';
import { isFromBroker } from '../auth/broker-secret.js';
import { tokenDigest } from '../auth/known-tokens.js';
import { bearerToken, type TokenVerifier } from '../auth/token-verifier.js';
import type { Config } from '../config/config.js';
import { requestIdOf } from './request-id.js';
import { sourceAddress, trustedProxies } from './source-address.js';

const WINDOW_MS = 60_000;
/** Asked by machines that must not be turned away: probes, and Prometheus. */
const UNCOUNTED = /^\/(health|metrics)(\/|$)/;
const BROKER_QUESTIONS = /^\/mqtt\/(auth|acl)\/?$/i;

/**
 * Limits how often one address, and one token, may ask: 429 with Retry-After. A handshake of a WebSocket counts as a
 * request of its address, so that tokens are not guessed there instead. Counted in this process's memory, so that each
 * replica has counts of its own. The first that is turned away in a minute is written down: the others would fill the
 * audit log, which is kept for ever. The broker's questions are not counted: whoever tries passwords at the broker would
 * lock every device out.
 */
export class Throttle {
  private readonly addresses = new MemoryStore();
  private readonly trusted: ReturnType<typeof trustedProxies>;

  constructor(
    private readonly config: Config,
    private readonly verifier: TokenVerifier,
    private readonly trail: AuditTrail,
  ) {
    this.trusted = trustedProxies(config.http);
  }

  /** For every HTTP request. */
  handlers(): RequestHandler[] {
    const { perIp, perToken } = this.config.http;
    const common = {
      windowMs: WINDOW_MS,
      standardHeaders: 'draft-7',
      legacyHeaders: false,
      // It would write to the console; what it checks is the business of TRUST_PROXY.
      validate: false,
    } as const;
    const byIp = rateLimit({
      ...common,
      limit: perIp,
      store: this.addresses,
      skip: (request) => this.isUncounted(request),
      keyGenerator: ({ ip }) => addressKey(ip),
      handler: (request, _response, next) => {
        if (isFirst(request, perIp)) this.note(request, request.ip, 'address', null);
        refuse(next);
      },
    });
    const byToken = rateLimit({
      ...common,
      limit: perToken,
      skip: (request) => bearerToken(request.headers.authorization) === null || this.isUncounted(request),
      keyGenerator: ({ headers }) => tokenDigest(bearerToken(headers.authorization) ?? ''),
      handler: (request, _response, next) => {
        if (isFirst(request, perToken)) void this.noteToken(request);
        refuse(next);
      },
    });
    return [...(perIp > 0 ? [byIp] : []), ...(perToken > 0 ? [byToken] : [])];
  }

  /** Counts the handshake of a WebSocket. @returns seconds until its address may try again; null: now. */
  async handshake(request: IncomingMessage): Promise<number | null> {
    const { perIp } = this.config.http;
    if (perIp === 0) return null;
    const address = sourceAddress(request, this.trusted) ?? undefined;
    const { totalHits, resetTime } = await this.addresses.increment(addressKey(address));
    if (totalHits <= perIp) return null;
    if (totalHits === perIp + 1) this.note(request, address, 'address', null);
    return Math.max(1, Math.ceil(((resetTime?.getTime() ?? 0) - Date.now()) / 1_000));
  }

  private isUncounted({ path, headers, query }: Request): boolean {
    return (
      UNCOUNTED.test(path) ||
      (BROKER_QUESTIONS.test(path) && isFromBroker(this.config, headers.authorization, query['secret']))
    );
  }

  private async noteToken(request: Request): Promise<void> {
    const token = bearerToken(request.headers.authorization) ?? '';
    const actor = await this.verifier.verify(token).catch(() => null);
    this.note(request, request.ip, 'token', actor);
  }

  private note(
    { headers }: IncomingMessage,
    source: string | undefined,
    whose: 'address' | 'token',
    actor: Principal | null,
  ): void {
    const entry: AuditEntry = {
      at: new Date(),
      actor,
      action: 'exceedRateLimit',
      patientId: null,
      deviceId: null,
      target: whose,
      source: source ?? null,
      outcome: 'denied',
      detail: 'too_many_requests',
      requestId: requestIdOf(headers['x-request-id']),
    };
    this.trail.note(entry);
  }
}

/** Whoever has an IPv6 network of its own has more addresses than can be counted. */
function addressKey(address: string | undefined): string {
  return ipKeyGenerator(address ?? '');
}

function isFirst(request: Request, limit: number): boolean {
  return (request as AugmentedRequest)['rateLimit']?.used === limit + 1;
}

function refuse(next: NextFunction): void {
  next(new HttpException('Too many requests; Retry-After tells when to come back.', 429));
}
