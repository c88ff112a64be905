import { HttpException } from '@nestjs/common';
import type { NextFunction, Request, RequestHandler, Response } from 'express';
import { rateLimit } from 'express-rate-limit';
import { isFromBroker } from '../auth/broker-secret.js';
import { tokenDigest } from '../auth/known-tokens.js';
import { bearerToken } from '../auth/token-verifier.js';
import type { Config } from '../config/config.js';

const WINDOW_MS = 60_000;
/** Asked by machines that must not be turned away: probes, and Prometheus. */
const UNCOUNTED = /^\/(health|metrics)(\/|$)/;
const BROKER_QUESTIONS = /^\/mqtt\/(auth|acl)\/?$/i;

/**
 * Limits how often one address, and one token, may ask: 429 with Retry-After. Counted in this process's memory, so that
 * each replica has counts of its own. The broker's questions are not counted: whoever tries passwords at the broker would
 * lock every device out.
 */
export function throttles(config: Config): RequestHandler[] {
  const { http } = config;
  const isUncounted = ({ path, headers, query }: Request): boolean =>
    UNCOUNTED.test(path) ||
    (BROKER_QUESTIONS.test(path) && isFromBroker(config, headers.authorization, query['secret']));
  const common = {
    windowMs: WINDOW_MS,
    standardHeaders: 'draft-7',
    legacyHeaders: false,
    // It would write to the console; what it checks is the business of TRUST_PROXY.
    validate: false,
    handler: (_request: Request, _response: Response, next: NextFunction): void =>
      next(new HttpException('Too many requests; Retry-After tells when to come back.', 429)),
  } as const;
  const perIp = rateLimit({
    ...common,
    limit: http.perIp,
    skip: isUncounted,
  });
  const perToken = rateLimit({
    ...common,
    limit: http.perToken,
    skip: (request) => bearerToken(request.headers.authorization) === null || isUncounted(request),
    keyGenerator: ({ headers }) => tokenDigest(bearerToken(headers.authorization) ?? ''),
  });
  return [...(http.perIp > 0 ? [perIp] : []), ...(http.perToken > 0 ? [perToken] : [])];
}
