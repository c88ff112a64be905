/** Where events go besides the broker: `EVENTS_URL`, taken apart. */
export interface EventAddress {
  readonly system: EventSystem;
  /** At least one; all of one cluster. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly tls: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** RabbitMQ's virtual host; undefined: its default one. */
  readonly virtualHost: string | undefined;
  /** How Kafka is told the password. */
  readonly mechanism: KafkaMechanism;
}

export type EventSystem = 'NATS' | 'RabbitMQ' | 'Kafka' | 'Redis';

const MECHANISMS = ['plain', 'scram-sha-256', 'scram-sha-512'] as const;
type KafkaMechanism = (typeof MECHANISMS)[number];

interface Scheme {
  readonly system: EventSystem;
  readonly tls: boolean;
  readonly port: number;
  readonly severalHosts?: true;
}

const SCHEMES: Readonly<Record<string, Scheme>> = {
  nats: { system: 'NATS', tls: false, port: 4_222, severalHosts: true },
  'nats+tls': { system: 'NATS', tls: true, port: 4_222, severalHosts: true },
  amqp: { system: 'RabbitMQ', tls: false, port: 5_672 },
  amqps: { system: 'RabbitMQ', tls: true, port: 5_671 },
  kafka: { system: 'Kafka', tls: false, port: 9_092, severalHosts: true },
  'kafka+tls': { system: 'Kafka', tls: true, port: 9_093, severalHosts: true },
  redis: { system: 'Redis', tls: false, port: 6_379 },
  rediss: { system: 'Redis', tls: true, port: 6_379 },
};

/** Scheme, account, hosts, path and query. The account reaches to the last @, as a password may have one in it. */
const ADDRESS = /^([a-z+]+):\/\/(?:(.*)@)?([^@/?#]+)(?:\/([^?#]*))?(?:\?([^#]*))?$/s;

/**
 * Takes an `EVENTS_URL` apart.
 * @throws Error that says what was expected, and quotes nothing: there may be a password in it.
 */
export function parseEventAddress(text: string): EventAddress {
  const [, name = '', account, authority = '', path = '', query = ''] = ADDRESS.exec(text) ?? [];
  const scheme = Object.hasOwn(SCHEMES, name) ? SCHEMES[name] : undefined;
  if (!scheme)
    throw new Error(`expected ${Object.keys(SCHEMES).join('://, ')}://, then user:password@ and host:port`);
  const { system, tls, port } = scheme;
  const hosts = authority.split(',').map((host) => hostOf(host, port));
  if (hosts.length > 1 && !scheme.severalHosts) throw new Error(`expected one host for ${system}`);
  const { username, password } = accountOf(account);
  // Redis numbers its databases there; what is published belongs to none of them.
  const isNamed = path !== '' && !(system === 'Redis' && /^\d+$/.test(path));
  if (isNamed && system !== 'RabbitMQ') throw new Error(`expected no path in the address of ${system}`);
  return {
    system,
    hosts,
    tls,
    username,
    password,
    virtualHost: isNamed ? decoded(path) : undefined,
    mechanism: mechanismOf(query, system),
  };
}

function hostOf(text: string, fallback: number): { host: string; port: number } {
  // As a web address, because only those have their hosts looked at.
  const url = URL.canParse(`http://${text}`) ? new URL(`http://${text}`) : undefined;
  // The port that such an address would leave out.
  const port = /:80$/.test(text) ? '80' : url?.port;
  if (!url || url.port === '0') throw new Error('expected host:port, and further ones after commas');
  return { host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port: port ? Number(port) : fallback };
}

function accountOf(account: string | undefined): {
  username: string | undefined;
  password: string | undefined;
} {
  if (account === undefined) return { username: undefined, password: undefined };
  const colon = account.indexOf(':');
  const [username, password] =
    colon < 0 ? [account, undefined] : [account.slice(0, colon), account.slice(colon + 1)];
  return { username: decoded(username) || undefined, password: password && decoded(password) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error('expected % in account and path to be written as %25');
  }
}

function mechanismOf(query: string, system: EventSystem): KafkaMechanism {
  if (query === '') return 'plain';
  const found = MECHANISMS.find((mechanism) => query === `sasl=${mechanism}`);
  if (system !== 'Kafka') throw new Error(`expected no query in the address of ${system}`);
  if (!found) throw new Error(`expected no query but ?sasl=${MECHANISMS.join(', ')}`);
  return found;
}
