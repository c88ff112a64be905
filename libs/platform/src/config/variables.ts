import {
  text,
  optional,
  integer,
  port,
  boolean,
  oneOf,
  exactly,
  duration,
  retention,
  secondsToAnHour,
  minuteToADay,
  list,
  origins,
  proxies,
  networks,
  deviceTopic,
  topicPrefix,
  sharedGroup,
  postgresUrl,
  httpUrl,
  publicKey,
  file,
} from './parsers.js';
import { parseEventAddress } from './event-address.js';

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
  MQTT_PASSWORD: variable(
    'mqtt_password',
    'its password, at least 12 characters in production',
    optional(text),
  ),
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
    "HTTP requests and WebSocket handshakes a minute from one address, at most; health, metrics and the broker's questions are not counted; 0: no limit",
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
    'development (unset), test or production, which refuses embedded servers, anonymous access, weak secrets and plaintext',
    optional(exactly('development', 'test', 'production')),
  ),
  ALLOW_INSECURE_TRANSPORT: variable(
    'false',
    'true lets production talk to broker, database and event system without TLS (a private network)',
    boolean,
  ),
  JWT_SECRET: variable(
    '',
    'HS256 secret, at least 32 bytes in production; unset in development: generated in DATA_DIR',
    optional(text),
  ),
  JWT_PUBLIC_KEY: variable(
    '',
    'PEM public key, RSA of at least 2048 bits or P-256; accepts RS256 or ES256 instead of HS256',
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
  STATUS_HISTORY_RETENTION: variable(
    '',
    'age past which changes of presence are deleted, but for the last of each device, at least 1d; unset: kept for ever',
    optional(retention),
  ),
  DEVICE_OFFLINE_AFTER: variable('5m', 'silence after which a device counts as offline', duration),
  BATTERY_LOW: variable(
    '20',
    'percent below which device.battery.low is told, once until it is charged; 0: never',
    integer(0, 100),
  ),
  COMMAND_EXPIRES_AFTER: variable('1h', 'time a command has to be completed when it names none', duration),
  COMMANDS_ALLOW_CUSTOM: variable(
    'false',
    'true: commands and parameters that the catalogue does not know are sent, too',
    boolean,
  ),
  EVENTS_URL: variable(
    '',
    'events go there, too: nats://, amqp:// (RabbitMQ), kafka:// or redis://, then user:password@host:port; by TLS: nats+tls://, amqps://, kafka+tls://, rediss://',
    optional(parseEventAddress),
  ),
  EVENTS_GRACE: variable(
    '10m',
    'how long measurements are taken in while that system is away; their events wait in the database, then their acknowledgements wait, too',
    duration,
  ),
  EVENTS_OUTBOX_BYTES: variable(
    '1073741824',
    'bytes of events that may wait in the database, at most',
    integer(1, 1_099_511_627_776),
  ),
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
  WS_COMPRESSION: variable(
    'false',
    'true compresses large messages to WebSocket clients that ask for it (permessage-deflate)',
    boolean,
  ),
  STREAM_REPLAY: variable(
    '6h',
    'how far back a client of the stream may resume; from 1m to 1d',
    minuteToADay,
  ),
  WEBHOOKS_ALLOW_NETWORKS: variable(
    '',
    'private addresses and networks that webhooks may be sent to, e.g. 10.1.0.0/16, comma-separated; unset: public ones only',
    networks,
  ),
  WEBHOOKS_ALLOW_HTTP: variable('false', 'true: webhooks may go out in plaintext, by http://', boolean),
  WEBHOOKS_KEY: variable(
    '',
    'encrypts the secrets of webhooks in the database, at least 32 bytes in production; unset: they are stored readable',
    optional(text),
  ),
  WEBHOOKS_TIMEOUT: variable('10s', 'time a webhook has to answer', secondsToAnHour),
  WEBHOOKS_RETRY_BASE: variable(
    '2s',
    'a failed delivery is sent again after up to this, then up to twice that and so on, at most 10m',
    duration,
  ),
  WEBHOOKS_MAX_ATTEMPTS: variable('20', 'attempts after which a delivery is given up', integer(1, 1_000)),
  WEBHOOKS_MAX_AGE: variable('1d', 'age past which a delivery is given up', duration),
  WEBHOOKS_MAX_PENDING: variable(
    '10000',
    'deliveries that wait for one webhook; past it, the oldest are given up',
    integer(1, 1_000_000),
  ),
  WEBHOOKS_MAX_KEPT: variable(
    '100000',
    'deliveries made, and given up, that are kept of one webhook to be replayed, each; the oldest go first',
    integer(0, 10_000_000),
  ),
  WEBHOOKS_RETENTION: variable('3d', 'how long they are kept', duration),
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
