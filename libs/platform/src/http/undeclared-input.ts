import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { ROUTE_ARGS_METADATA } from '@nestjs/common/constants.js';
import { RouteParamtypes } from '@nestjs/common/enums/route-paramtypes.enum.js';
import type { Observable } from 'rxjs';
import { type AuthenticatedRequest } from '../auth/auth.guard.js';
import { refuseFlawedBody } from './json-body.js';
import { validationFailed } from './validation.js';

const PLACES = { query: RouteParamtypes.QUERY, body: RouteParamtypes.BODY } as const;
type Place = keyof typeof PLACES;

/** Whether a route reads its query, or its body: then there is a DTO that says what may stand there. */
export function reads(context: ExecutionContext, place: Place): boolean {
  const { name } = context.getHandler();
  const parameters = (Reflect.getMetadata(ROUTE_ARGS_METADATA, context.getClass(), name) ?? {}) as object;
  return Object.keys(parameters).some((key) => key.startsWith(`${PLACES[place]}:`));
}

/**
 * Refuses bodies that could not be read, and fields that nobody reads: a DTO refuses those it does not know, and a route without one knows none. For routes
 * that have a caller; probes are nobody's to turn away.
 */
export class UndeclaredInput implements NestInterceptor {
  /** @throws DomainError invalid/validation_failed; invalid/invalid_json; what the body parser says */
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (context.getType() !== 'http') return next.handle();
    const request = context.switchToHttp().getRequest<AuthenticatedRequest>();
    refuseFlawedBody(request);
    if (!request.principal) return next.handle();
    const stray = (['query', 'body'] as const)
      .filter((place) => !reads(context, place))
      .flatMap((place) => fieldsOf(request[place]));
    if (stray.length > 0)
      throw validationFailed(stray.map((field) => ({ field, message: 'is not a known field' })));
    return next.handle();
  }
}

function fieldsOf(input: unknown): string[] {
  return typeof input === 'object' && input !== null ? Object.keys(input) : [];
}
