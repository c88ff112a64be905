import { DomainError } from './domain-error.js';

/** What a token may permit (contract, "REST"), in the form of OAuth 2.0 scopes (RFC 6749, section 3.3). */
export const SCOPES = [
  'devices:read',
  'devices:write',
  'readings:read',
  'commands:read',
  'commands:send',
  'stream',
  'admin',
] as const;
export type Scope = (typeof SCOPES)[number];

/** Whose something is; null: nobody's, as far as is known. */
export interface Ownership {
  readonly tenant: string | null;
  readonly patientId: number | null;
}

/** Of what names no registered device. */
export const NOBODYS: Ownership = { tenant: null, patientId: null };

/** Roles are shorthands for scopes; this table is the only place that says which. */
export const ROLE_SCOPES = {
  admin: SCOPES,
  clinician: ['devices:read', 'devices:write', 'readings:read', 'commands:read', 'commands:send', 'stream'],
  viewer: ['devices:read', 'readings:read', 'stream'],
  patient: ['readings:read', 'devices:read', 'stream'],
} as const satisfies Record<string, readonly Scope[]>;
type Role = keyof typeof ROLE_SCOPES;

/** Claims of a verified token that decide what it may do. */
export interface Claims {
  readonly sub?: unknown;
  readonly exp?: unknown;
  readonly scope?: unknown;
  readonly role?: unknown;
  readonly roles?: unknown;
  readonly patient_id?: unknown;
  /** Or by another name, as configured. */
  readonly tenant?: unknown;
}

/** Whose token names no tenant, and what was registered with such a token. */
export const DEFAULT_TENANT = 'default';
const TENANT = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$/;

/** Who asks, and what they may do. */
export class Principal {
  private constructor(
    readonly subject: string,
    /** Whether the token says who that is. All who don't say share a subject. */
    readonly isNamed: boolean,
    /** The roles it was given, separated by spaces; null: it has scopes instead. */
    readonly role: string | null,
    /** Confined to this tenant's devices. */
    readonly tenant: string,
    private readonly scopes: ReadonlySet<string>,
    /** Confined to this patient's devices; null: not confined. */
    readonly patientId: number | null,
    /** Seconds since 1970 (RFC 7519, section 4.1.4); null: never, for the anonymous stream only. */
    readonly expiresAt: number | null,
  ) {}

  /**
   * Reads a verified token's claims. Scopes come from `scope`, or else from `roles`/`role`.
   * The patient role without a usable `patient_id` sees nothing at all.
   * @throws DomainError forbidden/unknown_tenant for a tenant claim that can't name one, forbidden/unknown_subject for a
   *   subject that is no text (RFC 7519, section 4.1.2): it would be nobody in the audit log.
   */
  static fromClaims(claims: Claims): Principal {
    const roles = [claims.roles, claims.role].flat().filter(isRole);
    const scopes = new Set<string>(
      typeof claims.scope === 'string'
        ? claims.scope.split(' ').filter((scope) => scope !== '')
        : roles.flatMap((role) => ROLE_SCOPES[role]),
    );
    if (scopes.has('admin')) SCOPES.forEach((scope) => scopes.add(scope));
    const confined =
      claims.patient_id !== undefined || (roles.length > 0 && roles.every((role) => role === 'patient'));
    return new Principal(
      subjectOf(claims.sub),
      isNamed(claims.sub),
      roles.length > 0 ? roles.join(' ') : null,
      tenantOf(claims.tenant),
      scopes,
      confined ? patientOf(claims.patient_id) : null,
      typeof claims.exp === 'number' ? claims.exp : null,
    );
  }

  /** Whoever opens the WebSocket of the embedded default without a token. */
  static anonymousViewer(): Principal {
    return new Principal('anonymous', false, null, DEFAULT_TENANT, new Set(['stream']), null, null);
  }

  has(scope: Scope): boolean {
    return this.scopes.has(scope);
  }

  /** @throws DomainError forbidden/insufficient_scope */
  require(scope: Scope): void {
    if (!this.has(scope)) {
      throw new DomainError('forbidden', 'insufficient_scope', `This needs the scope ${scope}.`);
    }
  }

  /**
   * May it see what is theirs? What names no patient is for those who are not confined to one, what names no tenant for
   * the default tenant.
   */
  maySee({ tenant, patientId }: Ownership): boolean {
    if ((tenant ?? DEFAULT_TENANT) !== this.tenant) return false;
    return this.patientId === null || this.patientId === patientId;
  }
}

/** No patient has this id (they are positive): a confined token without a usable patient_id matches nobody. */
const NOBODY = -1;
/** Patient ids are positive numbers that fit PostgreSQL's INTEGER. */
export const MAX_PATIENT_ID = 2_147_483_647;

/** Whether something could be a patient's id. */
export function isPatientId(id: unknown): id is number {
  return typeof id === 'number' && Number.isInteger(id) && id > 0 && id <= MAX_PATIENT_ID;
}

function patientOf(claim: unknown): number {
  const id = typeof claim === 'string' && /^\d+$/.test(claim) ? Number(claim) : claim;
  return isPatientId(id) ? id : NOBODY;
}

function isNamed(subject: unknown): boolean {
  return subject !== undefined && subject !== '';
}

function subjectOf(claim: unknown): string {
  if (!isNamed(claim)) return 'unknown';
  if (typeof claim === 'string') return claim;
  throw new DomainError('forbidden', 'unknown_subject', 'The subject of the token is no text.');
}

function tenantOf(claim: unknown): string {
  if (claim === undefined) return DEFAULT_TENANT;
  if (typeof claim === 'string' && TENANT.test(claim)) return claim;
  throw new DomainError('forbidden', 'unknown_tenant', 'The token names no tenant that could be one.');
}

function isRole(value: unknown): value is Role {
  return typeof value === 'string' && Object.hasOwn(ROLE_SCOPES, value);
}
