import { Injectable, StreamableFile } from '@nestjs/common';
import type { CallHandler, CanActivate, ExecutionContext, NestInterceptor } from '@nestjs/common';
import type { Response } from 'express';
import { catchError, from, mergeMap, type Observable } from 'rxjs';
import { AuditTrail, Clock, isPatientId, type AuditEntry } from '#kernel';
import { reads, requestIdOf, type AuthenticatedRequest } from '#platform';
import { shownPeriod } from './shown-period.js';
import { outcomeOf, type Outcome } from './outcome.js';

/** Metadata of `@ApiOperation` (@nestjs/swagger): the operation's name in the API description names it here, too. */
const API_OPERATION = 'swagger/apiOperation';

/** Requests an entry has been begun for: what becomes of them is written by the interceptor. */
const taken = new WeakSet<object>();

/**
 * Stands before all other guards and writes down whom they send away: without a token, with a bad one, or without the
 * scope. Nothing is shown to those, so the answer does not wait for it.
 */
@Injectable()
export class AuditGuard implements CanActivate {
  constructor(
    private readonly trail: AuditTrail,
    private readonly clock: Clock,
  ) {}

  canActivate(context: ExecutionContext): boolean {
    if (context.getType() !== 'http') return true;
    const request = context.switchToHttp().getRequest<AuthenticatedRequest>();
    const response = context.switchToHttp().getResponse<Response>();
    // It is gone with the connection.
    const source = request.ip ?? null;
    const note = (outcome: Outcome): void =>
      this.trail.note({ ...entryOf(context, request, this.clock.now(), outcome), source });
    response.once('close', () => {
      // Nobody is there any more to be answered, and the guards may still wait for a key server.
      request.onRefusal = (error) => {
        const outcome = outcomeOf(error);
        if (!response.headersSent && outcome.outcome === 'denied') note(outcome);
      };
      const outcome = denialOf(response.statusCode, request);
      if (!taken.has(request) && outcome) note(outcome);
    });
    return true;
  }
}

/**
 * Writes down what callers do, on every route that has a caller: a new one, too. What shows something is shown once it
 * is written down; what changes something is begun once that is written down, and its end noted after it.
 */
@Injectable()
export class AuditInterceptor implements NestInterceptor {
  constructor(
    private readonly trail: AuditTrail,
    private readonly clock: Clock,
  ) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    if (context.getType() !== 'http') return next.handle();
    const request = context.switchToHttp().getRequest<AuthenticatedRequest>();
    if (!request.principal) return next.handle();
    taken.add(request);
    const shows = request.method === 'GET' || request.method === 'HEAD';
    const entry = (outcome: Outcome, result?: unknown): AuditEntry =>
      entryOf(context, request, this.clock.now(), outcome, result);
    if (!shows) await this.trail.record([entry({ outcome: 'begun', detail: null })]);
    return next.handle().pipe(
      mergeMap((result: unknown) => {
        const done = entry(
          { outcome: 'done', detail: result instanceof StreamableFile ? 'export' : null },
          result,
        );
        if (shows) {
          const shown = shownPeriod(context, request, result);
          return from(this.beforeShowing(shown ? { ...done, shown } : done, result));
        }
        this.trail.note(done);
        return [result];
      }),
      catchError((error: unknown) => {
        this.trail.note(entry(outcomeOf(error)));
        throw error;
      }),
    );
  }

  private async beforeShowing(entry: AuditEntry, result: unknown): Promise<unknown> {
    try {
      await this.trail.record([entry]);
      return result;
    } catch (error) {
      if (result instanceof StreamableFile) result.getStream().destroy();
      throw error;
    }
  }
}

function denialOf(status: number, { headers, principal }: AuthenticatedRequest): Outcome | null {
  if (status === 401) return { outcome: 'denied', detail: headers.authorization ? 'bad_token' : 'no_token' };
  if (status === 403) return { outcome: 'denied', detail: principal ? 'insufficient_scope' : 'forbidden' };
  return null;
}

function entryOf(
  context: ExecutionContext,
  request: AuthenticatedRequest,
  at: Date,
  { outcome, detail }: Outcome,
  result?: unknown,
): AuditEntry {
  const { principal, params } = request;
  // What nobody reads, or no DTO has found good, says nothing of whose data it is about.
  const isGood = taken.has(request) && outcome !== 'begun' && detail !== 'validation_failed';
  const query = isGood && reads(context, 'query') ? request.query : null;
  const body: unknown = principal && reads(context, 'body') ? request.body : null;
  const deviceId = textIn('device_id', params, body, query, result);
  // Whose data it is about: the patient that was named; or else, once it is written, the one who has the device. Before
  // a device goes to another patient it is its patient's.
  const named: unknown[] = isGood ? [result, body, query] : [];
  return {
    at,
    actor: principal ?? null,
    action: actionOf(context),
    patientId: patientIn(...named) ?? (deviceId === null ? (principal?.patientId ?? null) : null),
    deviceId,
    target:
      textIn('command_id', params, result) ?? textIn('webhook_id', params, result) ?? textIn('id', params),
    source: request.ip ?? null,
    outcome,
    detail,
    requestId: requestIdOf(request.headers['x-request-id']),
  };
}

function actionOf(context: ExecutionContext): string {
  const operation: unknown = Reflect.getMetadata(API_OPERATION, context.getHandler());
  return valueIn('operationId', operation) ?? `${context.getClass().name}.${context.getHandler().name}`;
}

function valueIn(name: string, holder: unknown): string | null {
  if (typeof holder !== 'object' || holder === null || !Object.hasOwn(holder, name)) return null;
  const value = (holder as Readonly<Record<string, unknown>>)[name];
  return typeof value === 'string' || typeof value === 'number' ? String(value) : null;
}

function textIn(name: string, ...holders: readonly unknown[]): string | null {
  for (const holder of holders) {
    const value = valueIn(name, holder);
    if (value !== null) return value;
  }
  return null;
}

function patientIn(...holders: readonly unknown[]): number | null {
  const id = Number(textIn('patient_id', ...holders) ?? 0);
  return isPatientId(id) ? id : null;
}
