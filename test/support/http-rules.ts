import { maySee, type Caller, type DeviceName, type Owner, type Scope } from './callers.js';

/** What a route needs besides its address: filled in for each caller and device. */
export interface Subject {
  readonly device: DeviceName | 'nobody';
  /** Null: registered nowhere. */
  readonly owner: Owner | null;
  readonly deviceId: string;
  readonly commandId: string;
  readonly rejectionId: string;
  readonly webhookId: string;
}

/** Who passes a route, and what it then answers. Written from the contract, not taken from the routes. */
export interface Rule {
  /** `everyone` needs no token; `the broker` is opened by its secret, and by no token. */
  readonly lock: Scope | 'everyone' | 'the broker';
  /** To whom it lets in: the status, and the code of a problem. */
  readonly answers: string;
  /** About something that is another's: as if it were not there, unless told otherwise. */
  readonly foreign?: string;
  /** Not for tokens confined to one patient, whatever their scope. */
  readonly unconfined?: true;
  /** Of which devices it tells, if not of none but the one that its address names. */
  readonly tells?: 'of all it may see' | 'anything';
  /** Not in the API description. */
  readonly undocumented?: true;
  /** Of a body's devices, those it is tried with; they are registered with the caller's own tenant. */
  readonly registers?: readonly DeviceName[];
  readonly body?: (subject: Subject) => object;
  /** Ways to ask that may take another way through the code. */
  readonly queries?: readonly string[];
  readonly accepts?: readonly string[];
}

const page = (path: string): Record<string, Rule> => ({
  // The same for everyone: looking for devices in a megabyte of script is for nothing.
  [`GET ${path}`]: { lock: 'everyone', answers: '200', undocumented: true, tells: 'anything' },
});
const health = { lock: 'everyone', answers: '200' } as const;
const webhooks = {
  lock: 'admin',
  answers: '200',
  foreign: '404 webhook_not_found',
  unconfined: true,
} as const;
const readings = { lock: 'readings:read', answers: '200' } as const;

/** Every route there is: one that is not here fails the test, and so does one that is here and not in the service. */
export const RULES: Readonly<Record<string, Rule>> = {
  'POST /devices/register': {
    lock: 'devices:write',
    answers: '201',
    foreign: '403 foreign_patient',
    registers: ['mine', 'theirs'],
    body: ({ owner }) => ({
      device_id: `new_${crypto.randomUUID()}`,
      type: 'weight_scale',
      patient_id: owner?.patientId,
    }),
  },
  'GET /devices': {
    lock: 'devices:read',
    answers: '200',
    tells: 'of all it may see',
    queries: ['?limit=1000'],
  },
  'GET /devices/:device_id': { lock: 'devices:read', answers: '200' },
  'PATCH /devices/:device_id': { lock: 'devices:write', answers: '200', body: () => ({ model: 'M2' }) },
  'DELETE /devices/:device_id': { lock: 'devices:write', answers: '204' },
  'POST /devices/:device_id/credentials': { lock: 'devices:write', answers: '200' },
  'GET /devices/:device_id/status-history': {
    lock: 'devices:read',
    answers: '200',
    queries: ['', '?limit=1'],
  },
  'GET /devices/:device_id/data': {
    ...readings,
    queries: ['', '?interval=5m&aggregate=avg', '?max_points=10'],
    accepts: ['text/csv', 'application/x-ndjson'],
  },
  'GET /devices/:device_id/latest': readings,
  // The same for everyone: types, and no device.
  'GET /device-types': { lock: 'devices:read', answers: '200', tells: 'anything' },
  'POST /devices/:device_id/command': {
    lock: 'commands:send',
    answers: '202',
    body: () => ({ command: 'tare' }),
  },
  'GET /devices/:device_id/commands': { lock: 'commands:read', answers: '200' },
  'GET /devices/:device_id/commands/:command_id': { lock: 'commands:read', answers: '200' },
  'POST /devices/:device_id/commands/:command_id/cancel': { lock: 'commands:send', answers: '200' },
  'GET /rejected-messages': {
    lock: 'admin',
    answers: '200',
    unconfined: true,
    tells: 'of all it may see',
    queries: ['?limit=1000'],
  },
  'POST /rejected-messages/:id/retry': {
    lock: 'admin',
    answers: '409 still_rejected',
    foreign: '404 rejected_message_not_found',
    unconfined: true,
  },
  'GET /stream': { lock: 'stream', answers: '200', queries: ['', '?events=device.connected'] },
  'POST /webhooks': {
    ...webhooks,
    answers: '201',
    body: () => ({ url: 'https://receiver.invalid/hook', active: false }),
  },
  'GET /webhooks': { ...webhooks, tells: 'of all it may see', queries: ['?limit=1000'] },
  'GET /webhooks/:webhook_id': webhooks,
  'PATCH /webhooks/:webhook_id': { ...webhooks, body: () => ({ events: ['device.connected'] }) },
  'DELETE /webhooks/:webhook_id': { ...webhooks, answers: '204' },
  'GET /webhooks/:webhook_id/deliveries': { ...webhooks, tells: 'anything', queries: ['', '?state=dead'] },
  'POST /webhooks/:webhook_id/replay': { ...webhooks, body: () => ({ states: ['dead'] }) },
  'GET /audit': { lock: 'admin', answers: '200', unconfined: true, tells: 'anything' },
  'POST /mqtt/auth': { lock: 'the broker', answers: '200' },
  'POST /mqtt/acl': { lock: 'the broker', answers: '200' },
  'GET /health': health,
  'GET /health/live': health,
  'GET /health/ready': health,
  'GET /health/detailed': health,
  'GET /metrics': health,
  ...page('/openapi.json'),
  ...page('/docs'),
  ...page('/docs/'),
  ...page('/docs/index.html'),
  // Swagger UI hides it.
  'GET /docs/LICENSE': { lock: 'everyone', answers: '404 route_not_found', undocumented: true },
  ...page('/docs/swagger-ui-init.js'),
  ...page('/docs/docs/swagger-ui-init.js'),
  ...page('/redoc'),
  ...page('/redoc/redoc.standalone.js'),
};

/** Folders of files for everyone; what else is below them is no route. */
export const FOLDERS = ['/docs'] as const;

const pattern = (path: string): RegExp => new RegExp(`^${path.replaceAll(/:\w+/g, '[^/]+')}$`);

/** The route that an address and a method lead to; those without parameters first. */
function routeOf(method: string, path: string): string | undefined {
  const sought = `${method === 'HEAD' ? 'GET' : method} ${path}`;
  return sought in RULES ? sought : Object.keys(RULES).find((route) => pattern(route).test(sought));
}

/** The rule of an address and a method; undefined: the address does not know the method. */
export function ruleOf(method: string, path: string): Rule | undefined {
  const route = routeOf(method, path);
  return route === undefined ? undefined : RULES[route];
}

/** What someone should be answered, about someone's device or about nothing in particular. */
export function expected(rule: Rule | undefined, { grant }: Caller, subject: Subject | null): string {
  if (!rule) return '405 method_not_allowed';
  if (rule.lock === 'everyone') return rule.answers;
  if (rule.lock === 'the broker' || !grant) return '401 unauthorized';
  if (!grant.scopes.includes(rule.lock) || (rule.unconfined && grant.confined))
    return '403 insufficient_scope';
  if (!subject) return rule.answers;
  const owner = rule.registers && subject.owner ? { ...subject.owner, tenant: grant.tenant } : subject.owner;
  return owner && maySee(grant, owner) ? rule.answers : (rule.foreign ?? '404 device_not_found');
}
