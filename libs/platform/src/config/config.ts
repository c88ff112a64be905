import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseEnv } from 'node:util';
import { tlsFilesProblem, type TlsFiles } from '../tls/tls-files.js';
import type { EventAddress } from './event-address.js';
import { parseVariables, type Environment } from './variables.js';
import { weakSecrets } from './weak-secrets.js';

/** How the service reaches its broker. `host` undefined: the embedded broker. */
export interface MqttConfig {
  readonly embedded: boolean;
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly clientId: string;
  readonly protocolVersion: 4 | 5;
  readonly inflight: number;
  /** Undefined: this client id's session gets every message. */
  readonly sharedGroup: string | undefined;
  /** Undefined: plaintext. */
  readonly tls: TlsFiles | undefined;
  readonly topics: {
    readonly data: string;
    readonly status: string;
    readonly commands: string;
    readonly responses: string;
    /** Empty: events are not published on the broker. */
    readonly events: string;
  };
}

/** How tokens are checked; exactly one key source is set, or none in development (a generated secret). */
export interface AuthConfig {
  readonly secret: string | undefined;
  readonly publicKey: string | undefined;
  readonly jwksUri: string | undefined;
  readonly issuer: string | undefined;
  readonly audience: string | undefined;
  /** The claim that names the tenant. */
  readonly tenantClaim: string;
}

/** What HTTP clients may do. */
interface HttpConfig {
  /** How many proxies in a row, or which, tell who the client is; undefined: none. */
  readonly trustProxy: number | readonly string[] | undefined;
  readonly corsOrigins: readonly string[];
  /** Requests a minute; 0: no limit. */
  readonly perIp: number;
  readonly perToken: number;
  readonly requestTimeout: number;
}

/** The whole configuration: read once at the start, frozen, injected by this type. Durations are in milliseconds. */
export abstract class Config {
  abstract readonly production: boolean;
  abstract readonly host: string;
  abstract readonly port: number;
  /** Undefined: plain HTTP. */
  abstract readonly tls: TlsFiles | undefined;
  abstract readonly http: HttpConfig;
  abstract readonly logLevel: Environment['LOG_LEVEL'];
  abstract readonly dataDir: string;
  /** Undefined: the embedded PostgreSQL, whose address is known once it runs. */
  abstract readonly databaseUrl: string | undefined;
  abstract readonly databaseTimeout: number;
  abstract readonly mqtt: MqttConfig;
  abstract readonly brokerAccess: 'embedded' | 'mosquitto-dynsec' | 'http' | 'none';
  /** Set where `brokerAccess` is http. */
  abstract readonly brokerAuthSecret: string | undefined;
  abstract readonly auth: AuthConfig;
  abstract readonly ingest: { readonly batchSize: number; readonly batchAge: number };
  /** Undefined: measurements are kept for ever. */
  abstract readonly readingsRetention: number | undefined;
  /** Undefined: the history of presence is kept for ever. */
  abstract readonly statusHistoryRetention: number | undefined;
  abstract readonly deviceOfflineAfter: number;
  /** Percent. */
  abstract readonly batteryLow: number;
  abstract readonly commandExpiresAfter: number;
  abstract readonly commandsAllowCustom: boolean;
  abstract readonly events: {
    /** Undefined: events go to the broker alone. */
    readonly address: EventAddress | undefined;
    readonly grace: number;
    readonly outboxBytes: number;
  };
  abstract readonly webSocket: {
    readonly allowAnonymous: boolean;
    readonly allowedOrigins: readonly string[];
    /** Pages served from any loopback origin may connect: the embedded default only. */
    readonly allowLoopbackOrigins: boolean;
    readonly maxBuffer: number;
    readonly maxClients: number;
    readonly maxClientsPerToken: number;
    readonly pingInterval: number;
    /** Whether permessage-deflate (RFC 7692) is agreed to. */
    readonly compression: boolean;
  };
  /** How far back a client of the stream may resume, in milliseconds. */
  abstract readonly streamReplay: number;
  abstract readonly webhooks: {
    /** Private networks they may be sent to. */
    readonly allowedNetworks: readonly string[];
    readonly allowHttp: boolean;
    /** Undefined: secrets are stored as they are. */
    readonly key: string | undefined;
    readonly timeout: number;
    readonly retryBase: number;
    readonly maxAttempts: number;
    readonly maxAge: number;
    readonly maxPending: number;
    readonly maxKept: number;
    readonly retention: number;
  };
  abstract readonly shutdownTimeout: number;
}

/** The configuration can't be used; `problems` lists everything that is wrong, one line each. */
export class ConfigError extends Error {
  constructor(readonly problems: readonly string[]) {
    super(`The configuration can't be used:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`);
    this.name = 'ConfigError';
  }
}

/**
 * Reads `.env` in the working directory, where present, below the process environment, which wins.
 * @throws ConfigError naming every wrong or missing value at once.
 */
export function loadConfig(): Config {
  let file: Record<string, string | undefined> = {};
  try {
    file = parseEnv(readFileSync('.env', 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      throw new ConfigError([`.env can't be read: ${(error as Error).message}`]);
    }
  }
  return parseConfig({ ...file, ...process.env });
}

/**
 * Builds the configuration from environment texts.
 * @throws ConfigError naming every wrong or missing value at once.
 */
export function parseConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const wrong: string[] = [];
  const values = parseVariables(env, wrong);
  const problems: string[] = [];
  if (values.NODE_ENV === 'production' && env['NODE_TLS_REJECT_UNAUTHORIZED'] === '0') {
    problems.push('NODE_TLS_REJECT_UNAUTHORIZED: production checks certificates');
  }

  const production = values.NODE_ENV === 'production';
  const databaseEmbedded = values.DATABASE_URL === undefined;
  const brokerEmbedded = values.MQTT_BROKER_HOST === undefined;
  const brokerAccess = values.BROKER_ACCESS ?? (brokerEmbedded ? 'embedded' : 'none');
  const host = values.HOST ?? (databaseEmbedded || brokerEmbedded ? '127.0.0.1' : '0.0.0.0');
  const embeddedDefault = databaseEmbedded && brokerEmbedded && !production && isLoopback(host);

  const topics = {
    data: values.MQTT_TOPIC_DEVICES,
    status: values.MQTT_TOPIC_STATUS,
    commands: values.MQTT_TOPIC_COMMANDS,
    responses: values.MQTT_TOPIC_RESPONSES,
    events: values.MQTT_TOPIC_EVENTS,
  };
  const deviceTopics = [topics.data, topics.status, topics.commands, topics.responses];
  if (new Set(deviceTopics).size < deviceTopics.length) {
    problems.push(
      'MQTT_TOPIC_DEVICES, MQTT_TOPIC_STATUS, MQTT_TOPIC_COMMANDS, MQTT_TOPIC_RESPONSES: expected four different topics',
    );
  }
  if (brokerAccess === 'embedded' && !brokerEmbedded) {
    problems.push('BROKER_ACCESS: embedded needs the embedded broker (no MQTT_BROKER_HOST)');
  }
  if ((brokerAccess === 'mosquitto-dynsec' || brokerAccess === 'http') && brokerEmbedded) {
    problems.push(`BROKER_ACCESS: ${brokerAccess} needs a broker of its own (set MQTT_BROKER_HOST)`);
  }
  if (brokerAccess === 'http' && values.MQTT_HTTP_AUTH_SECRET === undefined) {
    problems.push('MQTT_HTTP_AUTH_SECRET: BROKER_ACCESS=http needs a secret that the broker knows');
  }
  if (brokerAccess === 'mosquitto-dynsec' && values.MQTT_USERNAME === undefined) {
    problems.push(
      'MQTT_USERNAME: BROKER_ACCESS=mosquitto-dynsec needs the account that administers the plugin',
    );
  }
  if (values.MQTT_SHARED_GROUP !== undefined && brokerEmbedded) {
    problems.push(
      'MQTT_SHARED_GROUP: the embedded broker has no shared subscriptions (set MQTT_BROKER_HOST)',
    );
  }
  problems.push(...tlsProblems(values, brokerEmbedded));
  const keySources = ['JWT_SECRET', 'JWT_PUBLIC_KEY', 'JWT_JWKS_URI'] as const;
  if (keySources.filter((name) => values[name] !== undefined).length > 1) {
    problems.push(`${keySources.join(', ')}: expected one of them, not several`);
  }
  if (production) problems.push(...productionProblems(values));
  // What follows from a wrong value is not worth a line of its own.
  const wrongNames = wrong.map((problem) => new RegExp(`\\b${problem.slice(0, problem.indexOf(':'))}\\b`));
  wrong.push(...problems.filter((problem) => !wrongNames.some((name) => name.test(problem))));
  if (wrong.length > 0) throw new ConfigError(wrong);

  return deepFreeze<Config>({
    production,
    host,
    port: values.PORT,
    tls:
      values.TLS_CERT === undefined
        ? undefined
        : { ca: undefined, cert: values.TLS_CERT, key: values.TLS_KEY },
    http: {
      trustProxy: values.TRUST_PROXY,
      corsOrigins: values.CORS_ORIGINS,
      perIp: values.RATE_LIMIT_PER_IP,
      perToken: values.RATE_LIMIT_PER_TOKEN,
      requestTimeout: values.HTTP_REQUEST_TIMEOUT,
    },
    logLevel: values.LOG_LEVEL,
    dataDir: resolve(values.DATA_DIR),
    databaseUrl: values.DATABASE_URL,
    databaseTimeout: values.DATABASE_TIMEOUT,
    mqtt: {
      embedded: brokerEmbedded,
      host: values.MQTT_BROKER_HOST ?? '127.0.0.1',
      port: values.MQTT_BROKER_PORT,
      username: values.MQTT_USERNAME,
      password: values.MQTT_PASSWORD,
      clientId: values.MQTT_CLIENT_ID,
      protocolVersion: brokerEmbedded || values.MQTT_PROTOCOL_VERSION === '3.1.1' ? 4 : 5,
      inflight: values.MQTT_INFLIGHT,
      sharedGroup: values.MQTT_SHARED_GROUP,
      tls: values.MQTT_TLS
        ? { ca: values.MQTT_TLS_CA, cert: values.MQTT_TLS_CERT, key: values.MQTT_TLS_KEY }
        : undefined,
      topics,
    },
    brokerAccess,
    brokerAuthSecret: values.MQTT_HTTP_AUTH_SECRET,
    auth: {
      secret: values.JWT_SECRET,
      publicKey: values.JWT_PUBLIC_KEY,
      jwksUri: values.JWT_JWKS_URI,
      issuer: values.JWT_ISSUER,
      audience: values.JWT_AUDIENCE,
      tenantClaim: values.JWT_TENANT_CLAIM,
    },
    ingest: { batchSize: values.INGEST_BATCH_SIZE, batchAge: values.INGEST_BATCH_AGE },
    readingsRetention: values.READINGS_RETENTION,
    statusHistoryRetention: values.STATUS_HISTORY_RETENTION,
    deviceOfflineAfter: values.DEVICE_OFFLINE_AFTER,
    batteryLow: values.BATTERY_LOW,
    commandExpiresAfter: values.COMMAND_EXPIRES_AFTER,
    commandsAllowCustom: values.COMMANDS_ALLOW_CUSTOM,
    events: {
      address: values.EVENTS_URL,
      grace: values.EVENTS_GRACE,
      outboxBytes: values.EVENTS_OUTBOX_BYTES,
    },
    webSocket: {
      allowAnonymous: values.WS_ALLOW_ANONYMOUS ?? embeddedDefault,
      allowedOrigins: values.WS_ALLOWED_ORIGINS,
      allowLoopbackOrigins: embeddedDefault,
      maxBuffer: values.WS_MAX_BUFFER,
      maxClients: values.WS_MAX_CLIENTS,
      maxClientsPerToken: values.WS_MAX_CLIENTS_PER_TOKEN,
      pingInterval: values.WS_PING_INTERVAL,
      compression: values.WS_COMPRESSION,
    },
    streamReplay: values.STREAM_REPLAY,
    webhooks: {
      allowedNetworks: values.WEBHOOKS_ALLOW_NETWORKS,
      allowHttp: values.WEBHOOKS_ALLOW_HTTP,
      key: values.WEBHOOKS_KEY,
      timeout: values.WEBHOOKS_TIMEOUT,
      retryBase: values.WEBHOOKS_RETRY_BASE,
      maxAttempts: values.WEBHOOKS_MAX_ATTEMPTS,
      maxAge: values.WEBHOOKS_MAX_AGE,
      maxPending: values.WEBHOOKS_MAX_PENDING,
      maxKept: values.WEBHOOKS_MAX_KEPT,
      retention: values.WEBHOOKS_RETENTION,
    },
    shutdownTimeout: values.SHUTDOWN_TIMEOUT,
  });
}

/** Certificates that do not fit, and TLS half asked for: nothing goes out in plaintext that was meant to be encrypted. */
function tlsProblems(values: Environment, brokerEmbedded: boolean): string[] {
  const problems: string[] = [];
  if (values.MQTT_TLS && brokerEmbedded) {
    problems.push('MQTT_TLS: the embedded broker speaks no TLS (set MQTT_BROKER_HOST)');
  }
  const unused = (['MQTT_TLS_CA', 'MQTT_TLS_CERT', 'MQTT_TLS_KEY'] as const).filter(
    (name) => values[name] !== undefined,
  );
  if (!values.MQTT_TLS && unused.length > 0) problems.push(`${unused.join(', ')}: expected MQTT_TLS=true`);
  for (const prefix of ['', 'MQTT_'] as const) {
    const [cert, key] = [`${prefix}TLS_CERT`, `${prefix}TLS_KEY`] as const;
    if ((values[cert] === undefined) !== (values[key] === undefined)) {
      problems.push(`${cert}, ${key}: expected both of them or neither`);
      continue;
    }
    const ca = prefix === '' ? undefined : values.MQTT_TLS_CA;
    const problem = tlsFilesProblem({ ca, cert: values[cert], key: values[key] });
    if (problem === null || (prefix === 'MQTT_' && !values.MQTT_TLS)) continue;
    problems.push(
      problem === 'ca' ? 'MQTT_TLS_CA: expected PEM certificates' : `${cert}, ${key}: ${problem}`,
    );
  }
  return problems;
}

/** What NODE_ENV=production refuses (contract, "Start"). */
function productionProblems(values: Environment): string[] {
  const problems: string[] = [];
  if (values.DATABASE_URL === undefined) {
    problems.push('DATABASE_URL: production needs a database of its own, not the embedded one');
  } else if (!values.ALLOW_INSECURE_TRANSPORT && !isTlsDatabase(values.DATABASE_URL)) {
    problems.push('DATABASE_URL: production needs sslmode=verify-full, or ALLOW_INSECURE_TRANSPORT=true');
  }
  if (values.MQTT_BROKER_HOST === undefined) {
    problems.push('MQTT_BROKER_HOST: production needs a broker of its own, not the embedded one');
  } else if (!values.MQTT_TLS && !values.ALLOW_INSECURE_TRANSPORT) {
    problems.push('MQTT_TLS: production needs true, or ALLOW_INSECURE_TRANSPORT=true on a private network');
  }
  if (values.JWT_JWKS_URI?.startsWith('http:') && !values.ALLOW_INSECURE_TRANSPORT) {
    problems.push('JWT_JWKS_URI: production needs https, or ALLOW_INSECURE_TRANSPORT=true');
  }
  if (values.WEBHOOKS_ALLOW_HTTP && !values.ALLOW_INSECURE_TRANSPORT) {
    problems.push('WEBHOOKS_ALLOW_HTTP: production needs false, or ALLOW_INSECURE_TRANSPORT=true');
  }
  const events = values.EVENTS_URL;
  if (events && !events.hosts.every(({ host }) => isLoopback(host))) {
    if (!events.tls && !values.ALLOW_INSECURE_TRANSPORT)
      problems.push('EVENTS_URL: production needs an address with TLS, or ALLOW_INSECURE_TRANSPORT=true');
    if (events.username === undefined && events.password === undefined)
      problems.push(`EVENTS_URL: production needs an account at ${events.system} (user:password@)`);
  }
  // A certificate can stand for the account.
  const withCertificate = values.MQTT_TLS && values.MQTT_TLS_CERT !== undefined;
  if (values.MQTT_USERNAME === undefined && !withCertificate)
    problems.push('MQTT_USERNAME: production needs an account at the broker');
  if (values.MQTT_PASSWORD === undefined && !withCertificate)
    problems.push('MQTT_PASSWORD: production needs a password for the account at the broker');
  if (
    values.JWT_SECRET === undefined &&
    values.JWT_PUBLIC_KEY === undefined &&
    values.JWT_JWKS_URI === undefined
  ) {
    problems.push('JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS_URI: production needs one of them');
  }
  problems.push(...weakSecrets(values));
  // What a browser says of any page without an origin of its own: a sandboxed frame of whatever site.
  if (values.WS_ALLOWED_ORIGINS.includes('null'))
    problems.push('WS_ALLOWED_ORIGINS: production does not allow null, which any page can be');
  if (values.WS_ALLOW_ANONYMOUS) problems.push('WS_ALLOW_ANONYMOUS: production allows no anonymous access');
  return problems;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function isTlsDatabase(url: string): boolean {
  const modes = new URL(url).searchParams.getAll('sslmode');
  // Of several, the driver takes the last.
  return modes.length > 0 && modes.every((mode) => mode === 'verify-full');
}

function deepFreeze<T extends object>(value: T): T {
  for (const child of Object.values(value)) {
    if (typeof child === 'object' && child !== null) deepFreeze(child as object);
  }
  return Object.freeze(value);
}
