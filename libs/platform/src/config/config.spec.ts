import { generateKeyPairSync } from 'node:crypto';
import { ConfigError, parseConfig, type Config } from './config.js';

type Env = Readonly<Record<string, string>>;

/** What the start is refused for. */
function problemsOf(env: Env): readonly string[] {
  try {
    parseConfig(env);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

const PEM = { type: 'spki', format: 'pem' } as const;
const P256 = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export(PEM).toString();
const RSA_1024 = generateKeyPairSync('rsa', { modulusLength: 1_024 }).publicKey.export(PEM).toString();
const P384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export(PEM).toString();

/** As sections "Database" to "Topics" of the seed have it. */
const SEED: Env = {
  DATABASE_URL: 'postgresql://postgres:postgres@localhost:5432/mqtt_db',
  PORT: '8004',
  LOG_LEVEL: 'INFO',
  MQTT_BROKER_HOST: 'localhost',
  MQTT_BROKER_PORT: '1883',
  MQTT_USERNAME: 'mqtt_user',
  MQTT_PASSWORD: 'mqtt_password',
  MQTT_CLIENT_ID: 'hduce_mqtt_service',
  MQTT_TOPIC_DEVICES: 'devices/+/data',
  MQTT_TOPIC_STATUS: 'devices/+/status',
  MQTT_TOPIC_COMMANDS: 'devices/+/commands',
};

const PRODUCTION: Env = {
  NODE_ENV: 'production',
  DATABASE_URL: 'postgresql://mqtt:words-of-the-database@db.example:5432/mqtt_db?sslmode=verify-full',
  MQTT_BROKER_HOST: 'broker.example',
  MQTT_USERNAME: 'mqtt_service',
  MQTT_PASSWORD: 'not the default',
  JWT_SECRET: 'rQ8s5vX2kL9wZ4tB7yN1cM6dF3gH0jPa',
  ALLOW_INSECURE_TRANSPORT: 'true',
};

/** On top of PRODUCTION: nothing goes out in plaintext. */
const ENCRYPTED: Env = { ALLOW_INSECURE_TRANSPORT: 'false', MQTT_TLS: 'true' };

describe('parseConfig', () => {
  it('needs nothing: servers are embedded and listen on loopback', () => {
    expect(parseConfig({})).toMatchObject({
      production: false,
      host: '127.0.0.1',
      port: 8004,
      logLevel: 'INFO',
      databaseUrl: undefined,
      mqtt: {
        embedded: true,
        host: '127.0.0.1',
        port: 1883,
        protocolVersion: 4,
        topics: {
          data: 'devices/+/data',
          status: 'devices/+/status',
          commands: 'devices/+/commands',
          responses: 'devices/+/responses',
          events: 'events',
        },
      },
      brokerAccess: 'embedded',
      auth: { secret: undefined, publicKey: undefined, jwksUri: undefined },
      readingsRetention: undefined,
      statusHistoryRetention: undefined,
      deviceOfflineAfter: 300_000,
      batteryLow: 20,
      commandExpiresAfter: 3_600_000,
      webSocket: { allowAnonymous: true, allowLoopbackOrigins: true, maxBuffer: 1_048_576 },
    });
  });

  it("takes the seed's environment as it stands", () => {
    expect(parseConfig(SEED)).toMatchObject({
      host: '0.0.0.0',
      databaseUrl: SEED['DATABASE_URL'],
      mqtt: { embedded: false, host: 'localhost', username: 'mqtt_user', protocolVersion: 5 },
      brokerAccess: 'none',
      webSocket: { allowAnonymous: false, allowLoopbackOrigins: false },
    });
  });

  it('takes an empty value for an unset one', () => {
    const empty = Object.fromEntries(
      ['DATABASE_URL', 'PORT', 'MQTT_BROKER_HOST', 'JWT_SECRET', 'NODE_ENV', 'HOST', 'MQTT_TOPIC_STATUS'].map(
        (name) => [name, ' '],
      ),
    );
    expect(parseConfig(empty)).toEqual(parseConfig({}));
  });

  it('takes empty event topics and broker accounts at their word', () => {
    const { mqtt } = parseConfig({ ...SEED, MQTT_TOPIC_EVENTS: '', MQTT_USERNAME: '', MQTT_PASSWORD: '' });
    expect(mqtt).toMatchObject({ topics: { events: '' }, username: undefined, password: undefined });
  });

  it.each([
    ['1d', 86_400_000],
    ['24h', 86_400_000],
    ['36500d', 3_153_600_000_000],
  ])('keeps measurements for %s', (text, ms) => {
    expect(parseConfig({ READINGS_RETENTION: text }).readingsRetention).toBe(ms);
  });

  it.each([
    ['2', 2],
    ['loopback, 10.0.0.0/8,fd00::/8', ['loopback', '10.0.0.0/8', 'fd00::/8']],
  ])('trusts the proxies %s', (text, proxies) => {
    expect(parseConfig({ TRUST_PROXY: text }).http.trustProxy).toEqual(proxies);
  });

  it.each(['development', 'test'])('is not in production with NODE_ENV=%s', (name) => {
    expect(parseConfig({ NODE_ENV: name })).toEqual(parseConfig({}));
  });

  it('reads a PEM key written on one line', () => {
    expect(parseConfig({ JWT_PUBLIC_KEY: P256.trim().replaceAll('\n', '\\n') }).auth.publicKey).toBe(
      P256.trim(),
    );
  });

  it('cannot be changed', () => {
    const config = parseConfig({}) as { port: number; mqtt: { topics: { data: string } } };
    expect(() => (config.port = 1)).toThrow(TypeError);
    expect(() => (config.mqtt.topics.data = 'x')).toThrow(TypeError);
  });

  it.each([
    ['PORT', '0'],
    ['PORT', '65536'],
    ['PORT', '80.5'],
    ['PORT', '0x50'],
    ['LOG_LEVEL', 'loud'],
    ['NODE_ENV', 'Production'],
    ['NODE_ENV', 'prod'],
    ['NODE_ENV', 'live'],
    ['DATABASE_URL', 'mysql://localhost/mqtt_db'],
    ['DATABASE_URL', 'postgresql://localhost:port/mqtt_db'],
    ['MQTT_PROTOCOL_VERSION', '4'],
    ['MQTT_INFLIGHT', '0'],
    ['BROKER_ACCESS', 'all'],
    ['ALLOW_INSECURE_TRANSPORT', 'yes'],
    ['WEBHOOKS_ALLOW_NETWORKS', '10.0.0.0/33'],
    ['WEBHOOKS_ALLOW_NETWORKS', '0.0.0.0/0'],
    ['WEBHOOKS_ALLOW_NETWORKS', 'ward.example'],
    ['WEBHOOKS_MAX_ATTEMPTS', '0'],
    ['WEBHOOKS_TIMEOUT', '999ms'],
    ['WS_ALLOW_ANONYMOUS', '1'],
    ['WS_MAX_BUFFER', '-1'],
    ['WS_MAX_CLIENTS', '0'],
    ['WS_MAX_CLIENTS_PER_TOKEN', '0'],
    ['WS_PING_INTERVAL', '0s'],
    ['READINGS_RETENTION', '23h'],
    ['READINGS_RETENTION', '36501d'],
    ['READINGS_RETENTION', '1y'],
    ['STATUS_HISTORY_RETENTION', '23h'],
    ['DEVICE_OFFLINE_AFTER', '5'],
    ['BATTERY_LOW', '101'],
    ['COMMAND_EXPIRES_AFTER', 'never'],
    ['DATABASE_URL', 'postgresql://localhost/mqtt_db?sslmode=verify-full&sslrootcert=/nowhere/ca.pem'],
    ['MQTT_TLS', 'yes'],
    ['MQTT_TLS_CA', '/nowhere/ca.pem'],
    ['TLS_CERT', '/nowhere/cert.pem'],
    ['CORS_ORIGINS', '*'],
    ['CORS_ORIGINS', 'https://ward.example,https://ward.example/console'],
    ['CORS_ORIGINS', 'null'],
    ['TRUST_PROXY', 'true'],
    ['TRUST_PROXY', '0'],
    ['TRUST_PROXY', '10.0.0.0/33'],
    ['TRUST_PROXY', '0.0.0.0/0'],
    ['TRUST_PROXY', 'loopback,::/0'],
    ['TRUST_PROXY', '10.0.0.1,proxy.example'],
    ['RATE_LIMIT_PER_IP', '-1'],
    ['HTTP_REQUEST_TIMEOUT', '10ms'],
    ['JWT_JWKS_URI', 'keys.example/jwks.json'],
    ['JWT_JWKS_URI', 'file:///etc/jwks.json'],
    ['JWT_PUBLIC_KEY', 'ssh-rsa AAAA'],
    ['JWT_PUBLIC_KEY', P384],
    ['JWT_PUBLIC_KEY', RSA_1024],
    ['MQTT_TOPIC_DEVICES', 'devices/data'],
    ['MQTT_TOPIC_DEVICES', 'devices/+/+'],
    ['MQTT_TOPIC_DEVICES', 'devices/#'],
    ['MQTT_TOPIC_STATUS', 'devices/+/#'],
    ['MQTT_TOPIC_COMMANDS', 'devices/x+/commands'],
    ['MQTT_TOPIC_COMMANDS', 'devices/+/c+'],
    ['MQTT_TOPIC_RESPONSES', '$share/group/+/responses'],
    ['MQTT_TOPIC_EVENTS', 'events/+'],
    ['MQTT_TOPIC_EVENTS', 'events/#'],
    ['MQTT_TOPIC_EVENTS', 'events/'],
    ['MQTT_TOPIC_EVENTS', '/events'],
  ])('refuses %s=%s', (name, value) => {
    expect(problemsOf({ [name]: value })).toEqual([expect.stringMatching(`^${name}: expected `)]);
  });

  it.each(['+/data', 'a/+', 'a/b/+/c', '+'])('takes the device topic %s', (topic) => {
    expect(parseConfig({ MQTT_TOPIC_DEVICES: topic }).mqtt.topics.data).toBe(topic);
  });

  it.each<[Env, string]>([
    [{ MQTT_TOPIC_STATUS: 'devices/+/data' }, 'expected four different topics'],
    [{ MQTT_BROKER_HOST: 'localhost', BROKER_ACCESS: 'embedded' }, 'embedded needs the embedded broker'],
    [{ BROKER_ACCESS: 'mosquitto-dynsec' }, 'mosquitto-dynsec needs a broker of its own'],
    [{ BROKER_ACCESS: 'http', MQTT_HTTP_AUTH_SECRET: 's' }, 'http needs a broker of its own'],
    [
      { MQTT_BROKER_HOST: 'localhost', BROKER_ACCESS: 'http' },
      'MQTT_HTTP_AUTH_SECRET: BROKER_ACCESS=http needs',
    ],
    [
      { ...PRODUCTION, MQTT_HTTP_AUTH_SECRET: 's'.repeat(31) },
      'MQTT_HTTP_AUTH_SECRET: production needs at least 32',
    ],
    [{ MQTT_TLS: 'true' }, 'the embedded broker speaks no TLS'],
    [{ ...SEED, MQTT_TLS_CA: __filename }, 'expected MQTT_TLS=true'],
    [{ ...SEED, MQTT_TLS: 'true', MQTT_TLS_CA: __filename }, 'expected PEM certificates'],
    [{ ...SEED, MQTT_TLS: 'true', MQTT_TLS_CERT: __filename }, 'expected both of them or neither'],
    [{ TLS_KEY: __filename }, 'expected both of them or neither'],
    [{ TLS_CERT: __filename, TLS_KEY: __filename }, 'the key that belongs to it'],
    [{ JWT_SECRET: 'x', JWT_JWKS_URI: 'https://keys.example/jwks' }, 'expected one of them'],
  ])('refuses what does not go together: %j', (env, problem) => {
    expect(problemsOf(env)).toEqual([expect.stringContaining(problem)]);
  });

  it('names everything that is wrong at once, and nothing that only follows from it', () => {
    const env = {
      ...PRODUCTION,
      PORT: 'x',
      DATABASE_URL: 'mysql://db',
      LOG_LEVEL: 'loud',
      JWT_SECRET: 'short',
    };
    const problems = problemsOf(env);
    expect(problems.map((problem) => problem.split(':')[0])).toEqual([
      'DATABASE_URL',
      'PORT',
      'LOG_LEVEL',
      'JWT_SECRET',
    ]);
    expect(new ConfigError(problems).message).toContain(
      problems.map((problem) => `  - ${problem}`).join('\n'),
    );
  });

  it.each<[string, Env, Config['webSocket']['allowAnonymous']]>([
    ['an external broker', { MQTT_BROKER_HOST: 'localhost' }, false],
    ['an external database', { DATABASE_URL: 'postgresql://localhost/mqtt_db' }, false],
    ['a HOST others can reach', { HOST: '0.0.0.0' }, false],
    ['a HOST on loopback', { HOST: '::1' }, true],
    ['an explicit no', { WS_ALLOW_ANONYMOUS: 'false' }, false],
    ['an explicit yes', { ...SEED, WS_ALLOW_ANONYMOUS: 'true' }, true],
  ])('lets nobody watch without a token but on the embedded default: %s', (_what, env, allowed) => {
    expect(parseConfig(env).webSocket.allowAnonymous).toBe(allowed);
  });
});

describe('NODE_ENV=production', () => {
  it.each<[string, Env]>([
    ['a secret of 32 bytes', {}],
    ['a secret of 32 bytes in fewer characters', { JWT_SECRET: 'éèêëàâîïôöûüùçñõ' }],
    ['a public key', { JWT_SECRET: '', JWT_PUBLIC_KEY: P256 }],
    ['a key server', { JWT_SECRET: '', JWT_JWKS_URI: 'https://keys.example/jwks' }],
    ['a database in a socket of this machine', { DATABASE_URL: 'postgresql://mqtt@%2Fvar%2Frun/mqtt_db' }],
    ['a database in a socket named apart', { DATABASE_URL: 'postgresql:///mqtt_db?host=/var/run' }],
    [
      'a certificate for the database',
      { DATABASE_URL: `postgresql://mqtt@db.example/mqtt_db?sslcert=${__filename}` },
    ],
  ])('serves with %s', (_what, env) => {
    expect(parseConfig({ ...PRODUCTION, ...env })).toMatchObject({
      production: true,
      webSocket: { allowAnonymous: false, allowLoopbackOrigins: false },
    });
  });

  it.each<[string, Env]>([
    ['DATABASE_URL', { DATABASE_URL: '' }],
    ['MQTT_BROKER_HOST', { MQTT_BROKER_HOST: '' }],
    ['MQTT_TLS', { ALLOW_INSECURE_TRANSPORT: '' }],
    ['MQTT_USERNAME', { MQTT_USERNAME: '' }],
    ['MQTT_PASSWORD', { MQTT_PASSWORD: '' }],
    ['MQTT_PASSWORD', { MQTT_PASSWORD: 'mqtt_password' }],
    ['JWT_JWKS_URI', { JWT_SECRET: '', JWT_JWKS_URI: 'http://keys.example/jwks', ...ENCRYPTED }],
    ['DATABASE_URL', { DATABASE_URL: 'postgresql://mqtt:%70ostgres@db.example/mqtt_db' }],
    ['DATABASE_URL', { DATABASE_URL: 'postgresql://mqtt@db.example/mqtt_db?password=postgres' }],
    ['DATABASE_URL', { DATABASE_URL: 'postgresql://mqtt@db.example/mqtt_db' }],
    ['DATABASE_URL', { DATABASE_URL: 'postgresql://mqtt:eleven-long@db.example/mqtt_db' }],
    ['DATABASE_URL', { DATABASE_URL: 'postgresql://mqtt:short@%2Fvar%2Frun/mqtt_db' }],
    ['DATABASE_URL', { DATABASE_URL: 'postgresql://the-database:the-database@db.example/mqtt_db' }],
    [
      'DATABASE_URL',
      { DATABASE_URL: 'postgresql://mqtt:words-of-the-database@db.example/mqtt_db?password=x' },
    ],
    [
      'DATABASE_URL',
      { DATABASE_URL: 'postgresql://mqtt@db.example/mqtt_db?password=x&password=words-of-the-database' },
    ],
    ['MQTT_PASSWORD', { MQTT_PASSWORD: 'eleven-long' }],
    ['MQTT_PASSWORD', { MQTT_USERNAME: 'service-of-the-ward', MQTT_PASSWORD: 'service-of-the-ward' }],
    ['MQTT_PASSWORD', { MQTT_PASSWORD: 'words-of-the-database' }],
    ['MQTT_PASSWORD', { MQTT_PASSWORD: 'rQ8s5vX2kL9wZ4tB7yN1cM6dF3gH0jPa' }],
    ['JWT_SECRET', { MQTT_HTTP_AUTH_SECRET: 'rQ8s5vX2kL9wZ4tB7yN1cM6dF3gH0jPa' }],
    ['JWT_SECRET', { JWT_SECRET: 'abcdefghi'.repeat(5) }],
    ['JWT_SECRET', { JWT_SECRET: 'change-me-rQ8s5vX2kL9wZ4tB7yN1cM6dF3gH0jPa' }],
    ['JWT_SECRET', { JWT_SECRET: 'Secret-rQ8s5vX2kL9wZ4tB7yN1cM6dF3gH0jPa' }],
    ['JWT_SECRET', { JWT_SECRET: 'password-rQ8s5vX2kL9wZ4tB7yN1cM6dF3gH0jPa' }],
    ['MQTT_HTTP_AUTH_SECRET', { MQTT_HTTP_AUTH_SECRET: 's'.repeat(32) }],
    ['WEBHOOKS_KEY', { WEBHOOKS_KEY: 'short' }],
    ['JWT_SECRET, WEBHOOKS_KEY', { WEBHOOKS_KEY: 'rQ8s5vX2kL9wZ4tB7yN1cM6dF3gH0jPa' }],
    ['EVENTS_URL', { EVENTS_URL: 'amqp://rabbit.example' }],
    ['EVENTS_URL', { EVENTS_URL: 'amqp://ward:eleven-long@rabbit.example' }],
    ['EVENTS_URL', { EVENTS_URL: 'amqp://account-of-events:account-of-events@rabbit.example' }],
    ['EVENTS_URL', { EVENTS_URL: 'nats://short-token@nats.example' }],
    ['EVENTS_URL', { EVENTS_URL: 'redis://:short@127.0.0.1' }],
    ['DATABASE_URL, EVENTS_URL', { EVENTS_URL: 'nats://ward:words-of-the-database@nats.example' }],
    ['NODE_TLS_REJECT_UNAUTHORIZED', { NODE_TLS_REJECT_UNAUTHORIZED: '0' }],
    ['JWT_SECRET', { JWT_SECRET: '' }],
    ['JWT_SECRET', { JWT_SECRET: 's'.repeat(31) }],
    ['WS_ALLOW_ANONYMOUS', { WS_ALLOW_ANONYMOUS: 'true' }],
    ['WS_ALLOWED_ORIGINS', { WS_ALLOWED_ORIGINS: 'https://ward.example, null' }],
  ])('refuses %s: %j', (name, env) => {
    expect(problemsOf({ ...PRODUCTION, ...env })).toEqual([expect.stringMatching(`^${name}\\b`)]);
  });

  it('sends no webhook in plaintext unless told otherwise', () => {
    const env = { ...PRODUCTION, WEBHOOKS_ALLOW_HTTP: 'true' };
    expect(problemsOf(env)).toEqual([]);
    expect(problemsOf({ ...env, ...ENCRYPTED })).toEqual([expect.stringMatching('^WEBHOOKS_ALLOW_HTTP\\b')]);
  });

  it('serves with every connection encrypted, and a certificate in the place of an account', () => {
    expect(problemsOf({ ...PRODUCTION, ...ENCRYPTED })).toEqual([]);
    expect(problemsOf({ ...PRODUCTION, ...ENCRYPTED, MQTT_USERNAME: '', MQTT_PASSWORD: '' })).toHaveLength(2);
  });

  it.each([
    ['nats://ward:words-of-the-events@nats.example', 1],
    ['nats://ward:words-of-the-events@127.0.0.1,nats.example', 1],
    ['nats+tls://ward:words-of-the-events@nats.example', 0],
    ['nats+tls://words-of-the-events@nats.example', 0],
    ['nats://127.0.0.1', 0],
    ['redis://[::1]', 0],
  ])('takes events to %s unencrypted only on this machine, or when told so', (url, problems) => {
    const env = { ...PRODUCTION, EVENTS_URL: url };
    expect(problemsOf(env)).toEqual([]);
    expect(
      problemsOf({ ...env, ...ENCRYPTED }).filter((problem) => problem.startsWith('EVENTS_URL: production')),
    ).toHaveLength(problems);
  });

  it.each(['?sslmode=require', '?sslmode=disable', '?sslmode=verify-full&sslmode=no-verify', ''])(
    'refuses a database connection that is not verified (%j) unless told otherwise',
    (query) => {
      const env = {
        ...PRODUCTION,
        DATABASE_URL: `postgresql://mqtt:words-of-the-database@db.example/mqtt_db${query}`,
      };
      expect(problemsOf(env)).toEqual([]);
      expect(problemsOf({ ...env, ALLOW_INSECURE_TRANSPORT: 'false' })).toContainEqual(
        expect.stringMatching('^DATABASE_URL: production needs sslmode=verify-full'),
      );
    },
  );
});
