import { createPublicKey } from 'node:crypto';
import { accessSync, constants } from 'node:fs';
import { isIP } from 'node:net';
import { parseDuration } from '#kernel';

/** One environment variable: its name is the key it stands under in {@link VARIABLES}. */
export interface Variable<T> {
  /** As it would stand in `.env`; empty means unset. */
  readonly default: string;
  /** One line for `.env.example` and the README. */
  readonly description: string;
  /** Turns the text into its value; throws an Error whose message says what was expected. */
  readonly parse: (text: string) => T;
}

function variable<T>(fallback: string, description: string, parse: (text: string) => T): Variable<T> {
  return { default: fallback, description, parse };
}

const text = (value: string): string => value;

const optional =
  <T>(parse: (value: string) => T) =>
  (value: string): T | undefined =>
    value === '' ? undefined : parse(value);

const integer =
  (low: number, high: number) =>
  (value: string): number => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < low || number > high) {
      throw new Error(`expected a whole number from ${low} to ${high}`);
    }
    return number;
  };

const port = integer(1, 65_535);

const boolean = (value: string): boolean => {
  if (value === 'true') return true;
  if (value === 'false') return false;
  throw new Error('expected true or false');
};

const oneOf =
  <const T extends string>(...choices: readonly T[]) =>
  (value: string): T => {
    const found = choices.find((choice) => choice.toLowerCase() === value.toLowerCase());
    if (found === undefined) throw new Error(`expected one of ${choices.join(', ')}`);
    return found;
  };

const duration = (value: string): number => {
  const ms = parseDuration(value);
  if (ms === null) throw new Error('expected a duration such as 500ms, 30s, 5m, 1h or 7d');
  return ms;
};

const DAY_MS = 86_400_000;

const retention = (value: string): number => {
  const ms = parseDuration(value);
  if (ms === null || ms < DAY_MS || ms > 36_500 * DAY_MS) {
    throw new Error('expected a duration from 1d to 36500d, such as 365d');
  }
  return ms;
};

const secondsToAnHour = (value: string): number => {
  const ms = parseDuration(value);
  if (ms === null || ms < 1_000 || ms > 3_600_000) throw new Error('expected a duration from 1s to 1h');
  return ms;
};

const minuteToADay = (value: string): number => {
  const ms = parseDuration(value);
  if (ms === null || ms < 60_000 || ms > DAY_MS) throw new Error('expected a duration from 1m to 1d');
  return ms;
};

const list = (value: string): readonly string[] =>
  value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');

/** Origins as browsers send them: scheme, host, and a port that is not the scheme's own. */
const origins = (value: string): readonly string[] => {
  const items = list(value);
  if (!items.every((item) => /^https?:/.test(item) && URL.canParse(item) && new URL(item).origin === item)) {
    throw new Error('expected origins such as https://ward.example, comma-separated');
  }
  return items;
};

/** Which proxies may say who the client is: a number of hops, or where they are. Not all: anyone could claim any address. */
const proxies = (value: string): number | readonly string[] => {
  if (/^[1-9]$/.test(value)) return Number(value);
  const items = list(value);
  if (!items.every((item) => /^(loopback|linklocal|uniquelocal)$/.test(item) || isNetwork(item))) {
    throw new Error('expected a number of hops (1-9), or addresses and networks, or loopback, uniquelocal');
  }
  return items;
};

function isNetwork(text: string): boolean {
  const [address = '', bits, more] = text.split('/');
  const version = isIP(address);
  if (version === 0 || more !== undefined) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128));
}

/** A device topic: exactly one `+`, which stands for the device id, and no `#`. */
const deviceTopic = (value: string): string => {
  const levels = value.split('/');
  if (levels.filter((level) => level === '+').length !== 1 || /#|\0|^\$/.test(value)) {
    throw new Error(
      'expected a topic with exactly one + level for the device id and no #, such as devices/+/data',
    );
  }
  if (levels.some((level) => level !== '+' && level.includes('+'))) {
    throw new Error('expected + to stand alone between slashes');
  }
  return value;
};

const topicPrefix = (value: string): string => {
  if (/[+#\0]|^\$|^\/|\/$/.test(value))
    throw new Error('expected a topic prefix without wildcards, such as events');
  return value;
};

/** MQTT 5, section 4.8.2: at least one character, none of them / + # */
const sharedGroup = (value: string): string => {
  if (/[/+#\0]/.test(value)) throw new Error('expected a name without / + and #');
  return value;
};

const postgresUrl = (value: string): string => {
  if (!/^postgres(ql)?:\/\//.test(value) || !URL.canParse(value)) {
    throw new Error('expected postgresql://user:password@host:port/database');
  }
  for (const name of ['sslrootcert', 'sslcert', 'sslkey']) {
    for (const path of new URL(value).searchParams.getAll(name)) {
      if (!isReadable(path)) throw new Error(`expected ${name} to be the path of a file that can be read`);
    }
  }
  return value;
};

const httpUrl = (value: string): string => {
  if (!/^https?:\/\//.test(value) || !URL.canParse(value)) throw new Error('expected an http(s) address');
  return value;
};

/** A PEM text; where it had to be written on one line, with `\n` for its line ends. */
const publicKey = (value: string): string => {
  const pem = value.replaceAll('\\n', '\n');
  try {
    const { asymmetricKeyType, asymmetricKeyDetails } = createPublicKey(pem);
    if (asymmetricKeyType === 'rsa' || asymmetricKeyDetails?.namedCurve === 'prime256v1') return pem;
  } catch {
    // Refused below; what OpenSSL says of it helps nobody.
  }
  throw new Error('expected a PEM public key, RSA or P-256');
};

/** The path of a file that is there and may be read. */
const file = (value: string): string => {
  if (!isReadable(value)) throw new Error('expected the path of a file that can be read');
  return value;
};

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/** Every variable the service reads, the seed's first and under the seed's names. */
export const VARIABLES = {
  DATABASE_URL: variable(
    '',
    'PostgreSQL 15-18, e.g. postgresql://postgres:postgres@localhost:5432/mqtt_db; unset: an embedded one in DATA_DIR',
    optional(postgresUrl),
  ),
  PORT: variable('8004', 'HTTP and WebSocket port', port),
  LOG_LEVEL: variable(
    'INFO',
    'TRACE, DEBUG, INFO, WARN, ERROR or FATAL',
    oneOf('TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'),
  ),
  MQTT_BROKER_HOST: variable(
    '',
    'host of the MQTT broker, e.g. localhost; unset: an embedded broker on 127.0.0.1',
    optional(text),
  ),
  MQTT_BROKER_PORT: variable('1883', 'port of the broker, embedded or not', port),
  MQTT_USERNAME: variable('mqtt_user', "the service's own account at the broker", optional(text)),
  MQTT_PASSWORD: variable('mqtt_password', 'its password', optional(text)),
  MQTT_CLIENT_ID: variable(
    'hduce_mqtt_service',
    'client id of the durable session; replicas with the same one take turns: one holds it, the others stand by',
    text,
  ),
  MQTT_TOPIC_DEVICES: variable('devices/+/data', 'where devices publish measurements', deviceTopic),
  MQTT_TOPIC_STATUS: variable('devices/+/status', 'where devices publish their status and will', deviceTopic),
  MQTT_TOPIC_COMMANDS: variable('devices/+/commands', 'where devices receive commands', deviceTopic),
  MQTT_TOPIC_RESPONSES: variable('devices/+/responses', 'where devices answer commands', deviceTopic),
  MQTT_TOPIC_EVENTS: variable(
    'events',
    'events go out on <prefix>/<type>/<device_id>; empty switches that off',
    topicPrefix,
  ),
  MQTT_PROTOCOL_VERSION: variable(
    '5',
    '5 or 3.1.1; the embedded broker always speaks 3.1.1',
    oneOf('5', '3.1.1'),
  ),
  MQTT_INFLIGHT: variable(
    '4000',
    'messages taken from the broker and not yet acknowledged, at most (MQTT 5 receive maximum)',
    integer(1, 65_535),
  ),
  MQTT_SHARED_GROUP: variable(
    '',
    'several replicas share the messages by $share/<group>/..., each with an MQTT_CLIENT_ID of its own; unset: one takes all',
    optional(sharedGroup),
  ),
  MQTT_TLS: variable(
    'false',
    'true: the broker is reached by TLS only, at MQTT_BROKER_PORT (8883 as a rule)',
    boolean,
  ),
  MQTT_TLS_CA: variable(
    '',
    "PEM file of who may have signed the broker's certificate; unset: the authorities Node.js knows",
    optional(file),
  ),
  MQTT_TLS_CERT: variable(
    '',
    "PEM file of the service's own certificate for the broker, with its chain",
    optional(file),
  ),
  MQTT_TLS_KEY: variable('', 'PEM file of its private key', optional(file)),
  BROKER_ACCESS: variable(
    '',
    'how device accounts are kept: embedded, mosquitto-dynsec, http or none; unset: embedded with the embedded broker, else none',
    optional(oneOf('embedded', 'mosquitto-dynsec', 'http', 'none')),
  ),
  MQTT_HTTP_AUTH_SECRET: variable(
    '',
    'what a broker says to be let in at /mqtt/auth and /mqtt/acl with BROKER_ACCESS=http, at least 32 bytes in production',
    optional(text),
  ),
  HOST: variable(
    '',
    'address to listen on; unset: 127.0.0.1 with an embedded server, else 0.0.0.0',
    optional(text),
  ),
  TLS_CERT: variable(
    '',
    'PEM file of the certificate for HTTPS and WSS, with its chain; unset: plain HTTP, for a proxy that adds TLS',
    optional(file),
  ),
  TLS_KEY: variable('', 'PEM file of its private key', optional(file)),
  TRUST_PROXY: variable(
    '',
    'proxies that tell who the client is (X-Forwarded-For): how many in a row, or their addresses; unset: none does',
    optional(proxies),
  ),
  CORS_ORIGINS: variable(
    '',
    'origins whose pages may use the REST API, comma-separated; unset: only its own',
    origins,
  ),
  RATE_LIMIT_PER_IP: variable(
    '6000',
    'HTTP requests a minute from one address, at most; health and metrics are not counted; 0: no limit',
    integer(0, 10_000_000),
  ),
  RATE_LIMIT_PER_TOKEN: variable(
    '1200',
    'HTTP requests a minute with one token, at most; 0: no limit',
    integer(0, 10_000_000),
  ),
  HTTP_REQUEST_TIMEOUT: variable(
    '30s',
    'how long a client may take to send a request; its headers, a third of that',
    secondsToAnHour,
  ),
  DATA_DIR: variable('.data', 'folder for embedded data and development secrets', text),
  NODE_ENV: variable(
    '',
    'production refuses embedded servers, anonymous access, weak secrets and plaintext transports',
    optional(text),
  ),
  ALLOW_INSECURE_TRANSPORT: variable(
    'false',
    'true lets production talk to broker and database without TLS (a private network)',
    boolean,
  ),
  JWT_SECRET: variable(
    '',
    'HS256 secret, at least 32 bytes in production; unset in development: generated in DATA_DIR',
    optional(text),
  ),
  JWT_PUBLIC_KEY: variable(
    '',
    'PEM public key; accepts RS256 or ES256 instead of HS256',
    optional(publicKey),
  ),
  JWT_JWKS_URI: variable('', 'JWKS address; accepts RS256 and ES256 instead of HS256', optional(httpUrl)),
  JWT_ISSUER: variable('', 'required iss claim', optional(text)),
  JWT_AUDIENCE: variable('', 'required aud claim', optional(text)),
  JWT_TENANT_CLAIM: variable(
    'tenant',
    'claim that names the tenant whose devices a token is confined to; a token without it: the default tenant',
    text,
  ),
  INGEST_BATCH_SIZE: variable('1000', 'messages committed together, at most', integer(1, 10_000)),
  INGEST_BATCH_AGE: variable(
    '5ms',
    'how long a message waits for others before its batch is committed',
    duration,
  ),
  DATABASE_TIMEOUT: variable(
    '30s',
    'how long a request or a batch may have a database connection before that is given up; a batch is then tried again',
    duration,
  ),
  READINGS_RETENTION: variable(
    '',
    'age past which measurements are deleted, by whole months, at least 1d; unset: kept for ever',
    optional(retention),
  ),
  DEVICE_OFFLINE_AFTER: variable('5m', 'silence after which a device counts as offline', duration),
  COMMAND_EXPIRES_AFTER: variable('1h', 'time a command has to be completed when it names none', duration),
  WS_ALLOW_ANONYMOUS: variable(
    '',
    'true lets WebSocket clients in without a token; unset: true only with both servers embedded and a loopback HOST',
    optional(boolean),
  ),
  WS_ALLOWED_ORIGINS: variable(
    '',
    'further origins whose pages may open the WebSocket, comma-separated; its own origin always may',
    list,
  ),
  WS_MAX_BUFFER: variable(
    '1048576',
    'bytes a slow WebSocket client may be behind before it is closed with 1013',
    integer(1_024, 1_073_741_824),
  ),
  WS_MAX_CLIENTS: variable(
    '10000',
    'WebSocket connections at once; one more is closed with 1013',
    integer(1, 1_000_000),
  ),
  WS_MAX_CLIENTS_PER_TOKEN: variable(
    '20',
    'WebSocket connections at once with one token; one more is closed with 4429',
    integer(1, 1_000_000),
  ),
  WS_PING_INTERVAL: variable(
    '30s',
    'how often WebSocket clients are pinged; one that has not answered by the next ping is dropped',
    secondsToAnHour,
  ),
  STREAM_REPLAY: variable(
    '6h',
    'how far back a client of the stream may resume; from 1m to 1d',
    minuteToADay,
  ),
  SHUTDOWN_TIMEOUT: variable('15s', 'time to finish what has begun when told to stop', duration),
} as const;

/** The parsed value of every variable, by its name. */
export type Environment = {
  readonly [Name in keyof typeof VARIABLES]: ReturnType<(typeof VARIABLES)[Name]['parse']>;
};

/** Set to the empty string, these differ from being unset. */
const EMPTY_IS_A_VALUE: ReadonlySet<string> = new Set([
  'MQTT_TOPIC_EVENTS',
  'MQTT_USERNAME',
  'MQTT_PASSWORD',
]);

/**
 * Parses all variables.
 * @param env names to texts, such as the process environment.
 * @param problems receives one line for each value that can't be used; its default stands in for it.
 */
export function parseVariables(
  env: Readonly<Record<string, string | undefined>>,
  problems: string[],
): Environment {
  const values: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries<Variable<unknown>>(VARIABLES)) {
    const given = env[name]?.trim();
    const raw = given === undefined || (given === '' && !EMPTY_IS_A_VALUE.has(name)) ? spec.default : given;
    try {
      values[name] = spec.parse(raw);
    } catch (error) {
      problems.push(`${name}: ${error instanceof Error ? error.message : 'not usable'}`);
      values[name] = spec.parse(spec.default);
    }
  }
  return values as Environment;
}
