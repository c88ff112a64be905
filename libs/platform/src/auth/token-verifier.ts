import { createPublicKey, createSecretKey, type KeyObject } from 'node:crypto';
import { createRemoteJWKSet, jwtVerify, type JWTVerifyGetKey, type JWTVerifyOptions } from 'jose';
import type { Config } from '../config/config.js';
import { jwtSecret } from '../config/dev-secret.js';
import { Principal } from '#kernel';

/** Clocks of two machines may differ by this much. */
const CLOCK_TOLERANCE_SECONDS = 5;

/** The token is missing, malformed, expired, or not signed by the key. `message` says which, without the token. */
export class InvalidTokenError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'InvalidTokenError';
  }
}

/**
 * Checks bearer tokens (JWT, RFC 7519) with the one configured key source.
 * Algorithms are pinned per source (RFC 8725, section 3.1), so that a public key can't be passed off as a secret.
 */
export class TokenVerifier {
  private readonly key: KeyObject | JWTVerifyGetKey;
  private readonly options: JWTVerifyOptions;
  private readonly tenantClaim: string;

  constructor(config: Config) {
    const { publicKey, jwksUri, issuer, audience, tenantClaim } = config.auth;
    this.tenantClaim = tenantClaim;
    let algorithms: string[];
    if (jwksUri !== undefined) {
      this.key = createRemoteJWKSet(new URL(jwksUri));
      algorithms = ['RS256', 'ES256'];
    } else if (publicKey !== undefined) {
      const key = createPublicKey(publicKey);
      this.key = key;
      algorithms = key.asymmetricKeyType === 'ec' ? ['ES256'] : ['RS256'];
    } else {
      this.key = createSecretKey(jwtSecret(config), 'utf8');
      algorithms = ['HS256'];
    }
    this.options = {
      algorithms,
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
      requiredClaims: ['exp'],
      ...(issuer !== undefined && { issuer }),
      ...(audience !== undefined && { audience }),
    };
  }

  /**
   * @param token compact JWS, without the word Bearer.
   * @throws InvalidTokenError when it can't be trusted.
   */
  async verify(token: string): Promise<Principal> {
    try {
      const { payload } =
        typeof this.key === 'function'
          ? await jwtVerify(token, this.key, this.options)
          : await jwtVerify(token, this.key, this.options);
      return Principal.fromClaims({ ...payload, tenant: payload[this.tenantClaim] });
    } catch (error) {
      const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
      throw new InvalidTokenError(
        code === 'ERR_JWT_EXPIRED' ? 'The token has expired.' : 'The token is not valid for this service.',
      );
    }
  }
}

/** The token of an `Authorization: Bearer` header (RFC 6750, section 2.1), or null. */
export function bearerToken(header: string | undefined): string | null {
  const match = /^Bearer +([\w~+/.=-]+) *$/i.exec(header ?? '');
  return match?.[1] ?? null;
}
