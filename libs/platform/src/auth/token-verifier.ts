import { createPublicKey, createSecretKey, type KeyObject } from 'node:crypto';
import {
  createRemoteJWKSet,
  errors,
  jwksCache,
  jwtVerify,
  type JWKSCacheInput,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
} from 'jose';
import type { Config } from '../config/config.js';
import { jwtSecret } from '../config/dev-secret.js';
import { DomainError, Principal } from '#kernel';
import { KnownTokens } from './known-tokens.js';

/** Clocks of two machines may differ by this much. */
const CLOCK_TOLERANCE_SECONDS = 5;
/** How long the key server's keys hold: one that is withdrawn there is refused here after this time. */
const KEYS_HOLD_MS = 10 * 60_000;
/** A key not seen before is asked for at most this often, so that made-up ones are no load on the key server. */
const ASK_FOR_KEYS_EVERY_MS = 30_000;
const KEY_SERVER_WITHIN_MS = 5_000;

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
  private readonly known = new KnownTokens(CLOCK_TOLERANCE_SECONDS);
  /** The keys in force, by identity; null while they must be asked for. */
  private readonly keys: () => object | null;

  constructor(config: Config) {
    const { publicKey, jwksUri, issuer, audience, tenantClaim } = config.auth;
    this.tenantClaim = tenantClaim;
    let algorithms: string[];
    if (jwksUri !== undefined) {
      const { key, current } = keysOf(jwksUri);
      this.key = key;
      this.keys = current;
      algorithms = ['RS256', 'ES256'];
    } else if (publicKey !== undefined) {
      const key = createPublicKey(publicKey);
      this.key = key;
      this.keys = () => key;
      algorithms = key.asymmetricKeyType === 'ec' ? ['ES256'] : ['RS256'];
    } else {
      const key = createSecretKey(jwtSecret(config), 'utf8');
      this.key = key;
      this.keys = () => key;
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
   * @throws InvalidTokenError when it can't be trusted; DomainError unavailable when the key server can't be asked.
   */
  async verify(token: string): Promise<Principal> {
    const keys = this.keys();
    const known = this.known.find(token, keys);
    if (known) return known;
    // With two spellings, a token would have two counts of what it may ask.
    if (!hasOneSpelling(token)) throw new InvalidTokenError('The token is not valid for this service.');
    try {
      const payload = await this.check(token);
      const principal = Principal.fromClaims({ ...payload, tenant: payload[this.tenantClaim] });
      // Had the keys changed meanwhile, nobody would know which it was checked by.
      if (keys !== null && keys === this.keys()) this.known.add(token, keys, principal, payload.nbf ?? 0);
      return principal;
    } catch (error) {
      if (error instanceof DomainError && error.kind === 'unavailable') throw error;
      const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
      throw new InvalidTokenError(
        code === 'ERR_JWT_EXPIRED' ? 'The token has expired.' : 'The token is not valid for this service.',
      );
    }
  }

  private async check(token: string): Promise<JWTPayload> {
    const { key, options } = this;
    if (typeof key !== 'function') return (await jwtVerify(token, key, options)).payload;
    try {
      return (await jwtVerify(token, key, options)).payload;
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
      // Neither token nor keys carry a `kid`, and a rotation is under way.
      let last: unknown = error;
      for await (const candidate of error) {
        try {
          return (await jwtVerify(token, candidate, options)).payload;
        } catch (failure) {
          if (!(failure instanceof errors.JWSSignatureVerificationFailed)) throw failure;
          last = failure;
        }
      }
      throw last;
    }
  }
}

/** The keys at a JWKS address (RFC 7517): fetched when needed, remembered for a while. */
function keysOf(address: string): { readonly key: JWTVerifyGetKey; readonly current: () => object | null } {
  // jose leaves here what it has fetched: a new object each time.
  const fetched = {} as JWKSCacheInput;
  const keys = createRemoteJWKSet(new URL(address), {
    cacheMaxAge: KEYS_HOLD_MS,
    cooldownDuration: ASK_FOR_KEYS_EVERY_MS,
    timeoutDuration: KEY_SERVER_WITHIN_MS,
    [jwksCache]: fetched,
  });
  const key: JWTVerifyGetKey = async (header, token) => {
    try {
      return await keys(header, token);
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys)
        throw error;
      // The token may well be good: whoever holds it should keep it and come back.
      throw new DomainError(
        'unavailable',
        'key_server_unavailable',
        'Tokens can not be checked at the moment: the key server does not answer.',
      );
    }
  };
  return { key, current: () => (keys.fresh ? fetched.jwks : null) };
}

/**
 * Whether a compact JWS is written as its issuer would: base64url without padding, and no bit in its last letter that
 * does not count (RFC 4648, section 3.5). The signature covers its other parts as they are written, and not itself.
 */
function hasOneSpelling(token: string): boolean {
  const [, signature = ''] = /^[\w-]+\.[\w-]+\.([\w-]+)$/.exec(token) ?? [];
  return signature !== '' && Buffer.from(signature, 'base64url').toString('base64url') === signature;
}

/** The token of an `Authorization: Bearer` header (RFC 6750, section 2.1), or null. */
export function bearerToken(header: string | undefined): string | null {
  const match = /^Bearer +([\w~+/.=-]+) *$/i.exec(header ?? '');
  return match?.[1] ?? null;
}
