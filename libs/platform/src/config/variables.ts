import { createPublicKey } from 'node:crypto';
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

const list = (value: string): readonly string[] =>
  value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');

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
    '2000',
    'messages taken from the broker and not yet acknowledged, at most (MQTT 5 receive maximum)',
    integer(1, 65_535),
  ),
  MQTT_SHARED_GROUP: variable(
    '',
    'several replicas share the messages by $share/<group>/..., each with an MQTT_CLIENT_ID of its own; unset: one takes all',
    optional(sharedGroup),
  ),
  BROKER_ACCESS: variable(
    '',
    'how device accounts are kept: embedded or none; unset: embedded with the embedded broker, else none',
    optional(oneOf('embedded', 'none')),
  ),
  HOST: variable(
    '',
    'address to listen on; unset: 127.0.0.1 with an embedded server, else 0.0.0.0',
    optional(text),
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
