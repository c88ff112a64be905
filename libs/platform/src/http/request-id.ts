import { randomUUID } from 'node:crypto';
import type { NextFunction, Request, RequestHandler, Response } from 'express';

const HEADER = 'X-Request-Id';
/** What fits a log line and says nothing to whoever reads it. */
const SANE = /^[A-Za-z0-9][A-Za-z0-9._-]{7,63}$/;

/** The name a request goes by: the one its sender, or a proxy, has given it, or a new one. */
export function requestIdOf(header: string | readonly string[] | undefined): string {
  return typeof header === 'string' && SANE.test(header) ? header : randomUUID();
}

/** Gives each request a name, and says it in the answer, whatever that is: {@link requestIdOf} the request's header. */
export function nameRequests(): RequestHandler {
  return (request: Request, response: Response, next: NextFunction): void => {
    const name = requestIdOf(request.headers['x-request-id']);
    request.headers['x-request-id'] = name;
    response.setHeader(HEADER, name);
    next();
  };
}
