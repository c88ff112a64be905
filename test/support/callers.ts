import { SignJWT, UnsecuredJWT } from 'jose';
import { JWT_SECRET } from './service.js';

const ALL = [
  'devices:read',
  'devices:write',
  'readings:read',
  'commands:read',
  'commands:send',
  'stream',
  'admin',
] as const;
export type Scope = (typeof ALL)[number];

/** What each role may do. Written from the contract and not taken from the service, which is to be measured by it. */
export const ROLES = {
  admin: ALL,
  clinician: ['devices:read', 'devices:write', 'readings:read', 'commands:read', 'commands:send', 'stream'],
  viewer: ['devices:read', 'readings:read', 'stream'],
  patient: ['devices:read', 'readings:read', 'stream'],
} as const satisfies Record<string, readonly Scope[]>;

/** Whose a device is. */
export interface Owner {
  readonly tenant: string;
  readonly patientId: number;
}

/** The devices every caller is tried with. */
export const DEVICES = {
  mine: { tenant: 'default', patientId: 1 },
  theirs: { tenant: 'default', patientId: 2 },
  away: { tenant: 'north', patientId: 1 },
} as const satisfies Record<string, Owner>;
export type DeviceName = keyof typeof DEVICES;
export const DEVICE_NAMES = Object.keys(DEVICES) as DeviceName[];

/** What a valid token is good for. `patientId` 0: confined to nobody at all. */
export interface Grant extends Owner {
  readonly scopes: readonly Scope[];
  readonly confined: boolean;
}

/** Someone who asks; `grant` is null for who must not get in anywhere. */
export interface Caller {
  readonly name: string;
  /** Null: none at all. */
  readonly token: (() => Promise<string>) | null;
  readonly scheme: string;
  readonly grant: Grant | null;
}

export function maySee({ tenant, patientId, confined }: Grant, owner: Owner): boolean {
  return owner.tenant === tenant && (!confined || owner.patientId === patientId);
}

export async function headersOf({ token, scheme }: Caller): Promise<Record<string, string>> {
  return token ? { authorization: `${scheme} ${await token()}` } : {};
}

const sign = (claims: Record<string, unknown>, expires: string | null = '1h', secret = JWT_SECRET) => {
  const token = new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).setSubject('tester');
  return (expires === null ? token : token.setExpirationTime(expires)).sign(Buffer.from(secret));
};

function known(name: string, claims: Record<string, unknown>, scopes: readonly Scope[]): Caller {
  const { patient_id: patientId = 0, tenant = 'default' } = claims as {
    patient_id?: number;
    tenant?: string;
  };
  const confined = 'patient_id' in claims || claims['role'] === 'patient';
  const grant = { scopes, tenant, patientId, confined };
  return { name, token: () => sign(claims), scheme: 'Bearer', grant };
}

function unknown(name: string, token: Caller['token'], scheme = 'Bearer'): Caller {
  return { name, token, scheme, grant: null };
}

const ADMIN = { role: 'admin' };
const NORTHERN = { role: 'patient', tenant: 'north' };

/** Every role and every scope, confined and not, here and elsewhere; and those whom nobody should let in. */
export const CALLERS: readonly Caller[] = [
  ...Object.entries(ROLES).flatMap(([role, scopes]) => [
    known(`the role ${role}`, { role }, scopes),
    known(`the role ${role} for patient 1`, { role, patient_id: 1 }, scopes),
    known(`the role ${role} of another tenant`, { role, tenant: 'north' }, scopes),
  ]),
  ...ALL.flatMap((scope) => {
    const scopes = scope === 'admin' ? ALL : [scope];
    return [
      known(`the scope ${scope}`, { scope }, scopes),
      known(`the scope ${scope} for patient 1`, { scope, patient_id: 1 }, scopes),
    ];
  }),
  known('the role patient of another tenant for patient 1', { ...NORTHERN, patient_id: 1 }, ROLES.patient),
  known('the role patient for a patient who has nothing', { role: 'patient', patient_id: 3 }, ROLES.patient),
  known('two roles in one token', { roles: ['viewer', 'clinician'] }, ROLES.clinician),
  known('a role the scope narrows', { role: 'admin', scope: 'devices:read' }, ['devices:read']),
  known('a role nobody knows', { role: 'root' }, []),
  known('no role and no scope', {}, []),
  unknown('no token', null),
  unknown('an empty token', () => Promise.resolve('')),
  unknown('a broken token', async () => (await sign(ADMIN)).slice(0, -2)),
  unknown('a token of another scheme', () => sign(ADMIN), 'Basic'),
  unknown('a token of another key', () => sign(ADMIN, '1h', 'another-secret-with-more-than-32-bytes-in-it')),
  unknown('an expired token', () => sign(ADMIN, '10 seconds ago')),
  unknown('a token that never expires', () => sign(ADMIN, null)),
  unknown('an unsigned token', () =>
    Promise.resolve(new UnsecuredJWT(ADMIN).setExpirationTime('1h').encode()),
  ),
  unknown('a token whose tenant is none', () => sign({ ...ADMIN, tenant: '' })),
];
