import {
  createParamDecorator,
  Injectable,
  SetMetadata,
  applyDecorators,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { ApiBearerAuth } from '@nestjs/swagger';
import type { Request } from 'express';
import type { Principal, Scope } from '#kernel';
import { bearerToken, InvalidTokenError, TokenVerifier } from './token-verifier.js';

const ACCESS = 'mqtt-service:access';
const PUBLIC = 'public';

/** A request; with its caller once the guard has let it in. */
export type AuthenticatedRequest = Request & {
  principal?: Principal;
  /** Told why the guard does not let it in, also when nobody is there any more to be answered. */
  onRefusal?: (error: unknown) => void;
};

/** Opens a route to everyone: health checks and documentation. */
export const Public = (): MethodDecorator & ClassDecorator => SetMetadata(ACCESS, PUBLIC);

/** Opens a route to tokens with this scope. Every business route carries it: one without is open to nobody. */
export const RequireScope = (scope: Scope): MethodDecorator =>
  applyDecorators(SetMetadata(ACCESS, scope), ApiBearerAuth());

/** The scope a route is open to; undefined: it is open to everyone, or to nobody. */
export function scopeOf(context: ExecutionContext): Scope | undefined {
  const access = accessTo(context, new Reflector());
  return access === PUBLIC ? undefined : access;
}

function accessTo(context: ExecutionContext, reflector: Reflector): Scope | typeof PUBLIC | undefined {
  return reflector.getAllAndOverride<Scope | typeof PUBLIC | undefined>(ACCESS, [
    context.getHandler(),
    context.getClass(),
  ]);
}

/** The caller, in a handler under {@link RequireScope}. */
export const Caller = createParamDecorator((_data: unknown, context: ExecutionContext): Principal => {
  const { principal } = context.switchToHttp().getRequest<AuthenticatedRequest>();
  if (!principal) throw new InvalidTokenError('This route has no caller.');
  return principal;
});

/** Asks every HTTP request for a bearer token and the scope its route names. MQTT handlers have their own lock. */
@Injectable()
export class AuthGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly verifier: TokenVerifier,
  ) {}

  /** @throws InvalidTokenError (401) or DomainError forbidden/insufficient_scope (403) */
  async canActivate(context: ExecutionContext): Promise<boolean> {
    if (context.getType() !== 'http') return true;
    const access = accessTo(context, this.reflector);
    if (access === PUBLIC) return true;
    const request = context.switchToHttp().getRequest<AuthenticatedRequest>();
    try {
      return await this.admit(request, access);
    } catch (error) {
      request.onRefusal?.(error);
      throw error;
    }
  }

  private async admit(request: AuthenticatedRequest, access: Scope | undefined): Promise<boolean> {
    const token = bearerToken(request.headers.authorization);
    if (token === null) throw new InvalidTokenError('This route needs an Authorization: Bearer token.');
    request.principal = await this.verifier.verify(token);
    if (access === undefined) return false;
    request.principal.require(access);
    return true;
  }
}
