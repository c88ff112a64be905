import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import type { RawBodyRequest } from '@nestjs/common';
import type { ErrorRequestHandler, NextFunction, Request, RequestHandler, Response } from 'express';
import { DomainError, findJsonFlaw } from '#kernel';
import { validationFailed } from './validation.js';

const BODY_METHODS: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH']);

/**
 * Whether the body parser has something to read. What a GET or a DELETE carries means nothing (RFC 9110, sections 9.3.1
 * and 9.3.5), so nothing can be wrong with it either.
 */
export function hasJsonBody(request: IncomingMessage): boolean {
  return BODY_METHODS.has(request.method ?? '') && Boolean((request as Request).is('json'));
}

/**
 * Runs after the body parser and refuses what no DTO could mean: a body of another media type, and JSON
 * that is too deep, reaches for a prototype, or holds text PostgreSQL can't store.
 */
export function jsonBodyGuard(): RequestHandler {
  return (request: RawBodyRequest<Request>, _response: Response, next: NextFunction): void => {
    if (!BODY_METHODS.has(request.method)) {
      next();
      return;
    }
    const hasBody =
      request.headers['transfer-encoding'] !== undefined ||
      Number(request.headers['content-length'] ?? 0) > 0;
    if (hasBody && !request.is('json')) {
      next(unsupportedMediaType());
      return;
    }
    // The parser puts replacement characters in the place of bytes that are no UTF-8.
    if (request.rawBody && !isUtf8(request.rawBody)) {
      next(new DomainError('invalid', 'invalid_json', 'The body is not UTF-8.'));
      return;
    }
    const flaw = findJsonFlaw(request.body);
    if (flaw) {
      next(
        flaw.path === ''
          ? new DomainError('invalid', 'invalid_json', `The body ${flaw.reason}.`)
          : validationFailed([{ field: flaw.path, message: flaw.reason }]),
      );
      return;
    }
    next();
  };
}

/** What is wrong with bodies of requests that nobody has looked at yet. */
const flaws = new WeakMap<object, unknown>();
/** What no body of a request could be: no JSON, or of another type. One that is too large is not read to its end. */
const FLAWED: ReadonlySet<unknown> = new Set([400, 415]);

/**
 * Runs after {@link jsonBodyGuard} and lets a request with a bad body go on, for the guards to say first whether its caller
 * may ask at all, and for the audit log; {@link refuseFlawedBody} then refuses it.
 */
export function keepBodyFlaw(): ErrorRequestHandler {
  return (error: unknown, request: Request, _response: Response, next: NextFunction): void => {
    const isFlaw =
      error instanceof DomainError
        ? error.kind === 'invalid'
        : FLAWED.has((error as { status?: unknown } | null)?.status);
    if (isFlaw) flaws.set(request, error);
    next(isFlaw ? undefined : error);
  };
}

/** @throws what was found wrong with the request's body. */
export function refuseFlawedBody(request: Request): void {
  if (flaws.has(request)) throw flaws.get(request);
}

function unsupportedMediaType(): Error {
  return Object.assign(new Error('The body must be application/json.'), { status: 415 });
}
