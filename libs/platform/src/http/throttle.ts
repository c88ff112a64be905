import { HttpException } from '@nestjs/common';
import type { NextFunction, Request, RequestHandler, Response } from 'express';
import { rateLimit } from 'express-rate-limit';
import { tokenDigest } from '../auth/known-tokens.js';
import { bearerToken } from '../auth/token-verifier.js';
import type { Config } from '../config/config.js';

const WINDOW_MS = 60_000;
/** Asked by machines that must not be turned away: probes, and Prometheus. */
const UNCOUNTED = /^\/(health|metrics)(\/|$)/;

/**
 * Limits how often one address, and one token, may ask: 429 with Retry-After. Counted in this process's memory, so that
 * each replica has counts of its own.
 */
export function throttles({ http }: Config): RequestHandler[] {
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
    skip: ({ path }) => UNCOUNTED.test(path),
  });
  const perToken = rateLimit({
    ...common,
    limit: http.perToken,
    skip: ({ path, headers }) => UNCOUNTED.test(path) || bearerToken(headers.authorization) === null,
    keyGenerator: ({ headers }) => tokenDigest(bearerToken(headers.authorization) ?? ''),
  });
  return [...(http.perIp > 0 ? [perIp] : []), ...(http.perToken > 0 ? [perToken] : [])];
}
