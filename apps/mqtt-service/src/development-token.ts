import { createSecretKey } from 'node:crypto';
import { SignJWT } from 'jose';
import { parseDuration } from '#kernel';
import { jwtSecret, type Config } from '#platform';

const DEFAULT_LIFETIME = '12h';

/** What a development token should say. */
export interface TokenOptions {
  readonly sub?: string;
  readonly role?: string;
  /** Space-separated scopes instead of a role. */
  readonly scope?: string;
  readonly patientId?: number;
  readonly tenant?: string;
  /** A duration such as 30m or 12h. */
  readonly expiresIn?: string;
}

/**
 * Signs a token (HS256) that this service, started from the same folder, accepts.
 * @throws Error in production, with asymmetric keys, and for a lifetime that is none.
 */
export async function signToken(config: Config, options: TokenOptions): Promise<string> {
  if (config.production) throw new Error('Development tokens are refused when NODE_ENV=production.');
  if (config.auth.publicKey !== undefined || config.auth.jwksUri !== undefined) {
    throw new Error('Tokens are signed elsewhere: JWT_PUBLIC_KEY or JWT_JWKS_URI is set.');
  }
  const lifetime = parseDuration(options.expiresIn ?? DEFAULT_LIFETIME);
  if (lifetime === null) throw new Error('--expires-in: expected a duration such as 30m or 12h.');
  const now = Math.floor(Date.now() / 1_000);
  const claims = {
    ...(options.scope !== undefined ? { scope: options.scope } : { role: options.role ?? 'admin' }),
    ...(options.patientId !== undefined && { patient_id: options.patientId }),
    ...(options.tenant !== undefined && { tenant: options.tenant }),
  };
  const token = new SignJWT(claims)
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setSubject(options.sub ?? 'developer')
    .setIssuedAt(now)
    .setExpirationTime(now + Math.ceil(lifetime / 1_000));
  if (config.auth.issuer !== undefined) token.setIssuer(config.auth.issuer);
  if (config.auth.audience !== undefined) token.setAudience(config.auth.audience);
  return token.sign(createSecretKey(jwtSecret(config), 'utf8'));
}
