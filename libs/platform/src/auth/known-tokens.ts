import { hash } from 'node:crypto';
import type { Principal } from '#kernel';

/** So many are remembered, at about half a kilobyte each. */
const MAX_KNOWN = 10_000;

interface Known {
  readonly principal: Principal;
  /** Seconds since 1970. */
  readonly notBefore: number;
  readonly expiresAt: number;
}

/**
 * Tokens whose signature has been found good, so that it is checked once and not at each request. The same token by the
 * same keys has the same signature; what time changes is looked at each time.
 */
export class KnownTokens {
  private readonly tokens = new Map<string, Known>();
  private keys: object | null = null;

  /** @param toleranceSeconds how far two clocks may be apart. */
  constructor(private readonly toleranceSeconds: number) {}

  /**
   * Whose token it is. Null: it must be checked, and be it for the word on what is wrong with it.
   * @param keys the keys in force, by identity; null: they must be asked for anew.
   */
  find(token: string, keys: object | null): Principal | null {
    if (keys === null || keys !== this.keys) return null;
    const name = tokenDigest(token);
    const known = this.tokens.get(name);
    if (!known) return null;
    // As jose has it: whole seconds, and expired in the very second.
    const now = Math.floor(Date.now() / 1_000);
    if (known.expiresAt > now - this.toleranceSeconds && known.notBefore <= now + this.toleranceSeconds)
      return known.principal;
    this.tokens.delete(name);
    return null;
  }

  /** Remembers a token that was checked by these keys. What other keys have found good is forgotten. */
  add(token: string, keys: object, principal: Principal, notBefore: number): void {
    if (principal.expiresAt === null) return;
    if (keys !== this.keys) this.tokens.clear();
    this.keys = keys;
    if (this.tokens.size >= MAX_KNOWN) {
      const [oldest = ''] = this.tokens.keys();
      this.tokens.delete(oldest);
    }
    this.tokens.set(tokenDigest(token), { principal, notBefore, expiresAt: principal.expiresAt });
  }
}

/** A token's name in memory. Not the token itself: what lies there may end in a dump. */
export function tokenDigest(token: string): string {
  return hash('sha256', token, 'base64');
}
