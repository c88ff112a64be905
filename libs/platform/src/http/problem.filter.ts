import { STATUS_CODES } from 'node:http';
import {
  Catch,
  HttpException,
  Logger,
  MethodNotAllowedException,
  NotFoundException,
  type ArgumentsHost,
  type ExceptionFilter,
} from '@nestjs/common';
import type { Request, Response } from 'express';
import { DomainError, type DomainErrorKind, type FieldError } from '#kernel';
import { InvalidTokenError } from '../auth/token-verifier.js';
import { errorCode, isDatabaseUnavailable } from '../database/database-errors.js';
import type { Problem } from './problem.js';

const STATUS_OF_KIND: Readonly<Record<DomainErrorKind, number>> = {
  invalid: 400,
  not_found: 404,
  conflict: 409,
  unprocessable: 422,
  forbidden: 403,
  unavailable: 503,
};

/** Stable codes for what the framework itself refuses. */
const CODE_OF_STATUS: Readonly<Record<number, string>> = {
  400: 'bad_request',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'route_not_found',
  405: 'method_not_allowed',
  406: 'not_acceptable',
  408: 'request_timeout',
  413: 'payload_too_large',
  415: 'unsupported_media_type',
  417: 'expectation_failed',
  429: 'too_many_requests',
  431: 'headers_too_large',
  503: 'unavailable',
};

/** A failure as it is answered. */
export interface Finding {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly errors?: readonly FieldError[];
  /** Extension members: RFC 9457, section 3.2. */
  readonly members?: Readonly<Record<string, string>>;
}

/** The one place where a failure becomes an HTTP answer (RFC 9457). */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  private readonly logger = new Logger('Http');

  catch(error: unknown, host: ArgumentsHost): void {
    if (host.getType() !== 'http') throw error;
    const request = host.switchToHttp().getRequest<Request>();
    const response = host.switchToHttp().getResponse<Response>();
    const allowed = error instanceof NotFoundException ? allowedMethods(request) : [];
    const finding = examine(allowed.length > 0 ? new MethodNotAllowedException() : error);
    if (finding.status >= 500 && finding.code === 'internal_error') {
      // The message of an unforeseen error may quote values; its stack's frames and code do not.
      const frames =
        error instanceof Error ? (error.stack ?? '').split('\n    at ').slice(1, 6).join(' < ') : '';
      this.logger.error(
        `${request.method} ${request.path} failed (${errorCode(error) ?? errorName(error)}) at ${frames}`,
      );
    }
    if (response.headersSent) {
      // A stream broke off in the middle: cutting the connection is the only honest end.
      response.destroy();
      return;
    }
    // RFC 9110, section 15.5.6
    if (allowed.length > 0) response.setHeader('Allow', allowed.join(', '));
    if (finding.status === 401) response.setHeader('WWW-Authenticate', 'Bearer');
    if (finding.status === 503) response.setHeader('Retry-After', '1');
    response.status(finding.status).type('application/problem+json').send(problemBody(finding, request.path));
  }
}

/** A problem as it goes over the wire. */
export function problemBody(finding: Finding, instance?: string): string {
  const problem: Omit<Problem, 'instance'> & Partial<Problem> = {
    ...finding.members,
    type: `urn:mqtt-service:problem:${finding.code}`,
    title: STATUS_CODES[finding.status] ?? 'Error',
    status: finding.status,
    detail: finding.detail,
    ...(instance !== undefined && { instance }),
    code: finding.code,
    ...(finding.errors && finding.errors.length > 0 && { errors: [...finding.errors] }),
  };
  return JSON.stringify(problem);
}

/** The stable code of a status that the framework, or Node itself, answers with. */
export function codeOfStatus(status: number): string {
  return CODE_OF_STATUS[status] ?? 'error';
}

/** What the router knows of an address. */
interface RouterLayer {
  readonly route?: { readonly methods: Readonly<Record<string, boolean>> };
  match(path: string): boolean;
}

/** The methods an address does answer to, for a request that no route has taken; none when its own is among them. */
function allowedMethods(request: Request): string[] {
  const { stack } = request.app.router as unknown as { readonly stack: readonly RouterLayer[] };
  const methods = new Set<string>();
  for (const layer of stack) {
    if (!layer.route || !layer.match(request.path)) continue;
    for (const method of Object.keys(layer.route.methods)) methods.add(method.toUpperCase());
  }
  if (methods.has('GET')) methods.add('HEAD');
  // The route is there and has answered that there is nothing.
  return methods.has(request.method) ? [] : [...methods].sort();
}

/** What a failure is to the caller: status, stable code, and what may be told of it. */
export function examine(error: unknown): Finding {
  if (error instanceof DomainError) {
    return {
      status: STATUS_OF_KIND[error.kind],
      code: error.code,
      detail: error.message,
      errors: error.errors,
      members: error.members,
    };
  }
  if (error instanceof InvalidTokenError) return { status: 401, code: 'unauthorized', detail: error.message };
  if (isDatabaseUnavailable(error)) {
    return {
      status: 503,
      code: 'database_unavailable',
      detail: 'The database is not reachable at the moment.',
    };
  }
  const status = error instanceof HttpException ? error.getStatus() : clientErrorStatus(error);
  if (status !== null) return { status, code: codeOf(error, status), detail: detailOf(error, status) };
  return { status: 500, code: 'internal_error', detail: 'Something went wrong here; it has been logged.' };
}

/** Errors of the body parser carry `status` and `type` (http-errors); only client errors are passed on. */
function clientErrorStatus(error: unknown): number | null {
  if (typeof error === 'object' && error !== null && 'status' in error && typeof error.status === 'number') {
    return error.status >= 400 && error.status < 500 ? error.status : null;
  }
  return null;
}

function codeOf(error: unknown, status: number): string {
  if (status === 400 && isBodyParseError(error)) return 'invalid_json';
  return codeOfStatus(status);
}

function detailOf(error: unknown, status: number): string {
  if (status === 400 && isBodyParseError(error)) return 'The body is not valid JSON.';
  if (status === 413) return 'The body is larger than 100 kB.';
  if (status === 405) return 'This address does not know this method.';
  if (status === 404) return 'There is nothing at this address.';
  return error instanceof Error ? error.message : (STATUS_CODES[status] ?? 'Error');
}

function isBodyParseError(error: unknown): boolean {
  const cause = error instanceof HttpException ? error.getResponse() : error;
  const message =
    error instanceof SyntaxError
      ? error.message
      : typeof cause === 'object' && cause !== null && 'message' in cause
        ? String(cause.message)
        : '';
  return (
    (typeof cause === 'object' &&
      cause !== null &&
      'type' in cause &&
      cause.type === 'entity.parse.failed') ||
    message.includes('JSON')
  );
}

function errorName(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}
