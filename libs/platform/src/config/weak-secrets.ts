import { VARIABLES, type Environment } from './variables.js';

/** The shortest key HS256 may use (RFC 7518, section 3.2: a key of the hash's size or larger). */
const MIN_SECRET_BYTES = 32;
/** 32 random bytes in hexadecimal have 15 of their 16 digits, as a rule. */
const MIN_DISTINCT_CHARACTERS = 10;
const MIN_PASSWORD_LENGTH = 12;
/** How examples begin. */
const PLACEHOLDER = /^(change[-_ ]?me|secret|password)/i;

/** Secrets that could be guessed, or that whoever knows another one knows too. */
export function weakSecrets(values: Environment): string[] {
  const problems: string[] = [];
  const report = (name: string, problem: string | null): void => {
    if (problem !== null) problems.push(`${name}: production needs ${problem}`);
  };
  const databasePassword =
    values.DATABASE_URL === undefined ? undefined : databasePasswordOf(new URL(values.DATABASE_URL));
  if (values.DATABASE_URL !== undefined)
    report('DATABASE_URL', weakDatabaseUrl(new URL(values.DATABASE_URL)));
  if (values.MQTT_PASSWORD !== undefined)
    report('MQTT_PASSWORD', weakBrokerPassword(values.MQTT_PASSWORD, values.MQTT_USERNAME));
  const eventsPassword = eventsPasswordOf(values);
  if (eventsPassword !== undefined)
    report(
      'EVENTS_URL',
      weakPassword(eventsPassword, values.EVENTS_URL?.password && values.EVENTS_URL.username),
    );
  for (const name of ['JWT_SECRET', 'MQTT_HTTP_AUTH_SECRET', 'WEBHOOKS_KEY'] as const) {
    const secret = values[name];
    if (secret !== undefined) report(name, weakKey(secret));
  }
  const secrets = Object.entries({
    MQTT_PASSWORD: values.MQTT_PASSWORD,
    DATABASE_URL: databasePassword,
    EVENTS_URL: eventsPassword,
    JWT_SECRET: values.JWT_SECRET,
    MQTT_HTTP_AUTH_SECRET: values.MQTT_HTTP_AUTH_SECRET,
    WEBHOOKS_KEY: values.WEBHOOKS_KEY,
  }).filter(([, secret]) => secret !== undefined && secret !== '');
  for (const [name, secret] of secrets) {
    const same = secrets.filter(([, other]) => other === secret).map(([other]) => other);
    if (same.length > 1 && same[0] === name)
      problems.push(`${same.join(', ')}: production needs a secret for each`);
  }
  return problems;
}

function weakKey(secret: string): string | null {
  if (Buffer.byteLength(secret) < MIN_SECRET_BYTES) return `at least ${MIN_SECRET_BYTES} bytes`;
  if (new Set(secret).size < MIN_DISTINCT_CHARACTERS || PLACEHOLDER.test(secret))
    return 'a random secret, such as of: openssl rand -hex 32';
  return null;
}

function weakBrokerPassword(password: string, username: string | undefined): string | null {
  if (password === VARIABLES.MQTT_PASSWORD.default) return 'a password that is not the default';
  return weakPassword(password, username);
}

function weakDatabaseUrl(url: URL): string | null {
  const { searchParams } = url;
  const given = [...searchParams.getAll('password'), ...(url.password === '' ? [] : [url.password])];
  if (given.length > 1) return 'its password once';
  const host = searchParams.get('host') ?? decodeURIComponent(url.hostname);
  // Who connects is told by the operating system, or by a certificate.
  if (given.length === 0 && (host.startsWith('/') || searchParams.has('sslcert'))) return null;
  return weakPassword(databasePasswordOf(url), searchParams.get('user') ?? decodeURIComponent(url.username));
}

/** As the driver takes it. */
function databasePasswordOf({ password, searchParams }: URL): string {
  return searchParams.getAll('password').at(-1) || decodeURIComponent(password);
}

/** Of an account without a password, the name is a token. */
function eventsPasswordOf({ EVENTS_URL: address }: Environment): string | undefined {
  return address?.password ?? address?.username;
}

function weakPassword(password: string, username: string | undefined): string | null {
  if (password.length >= MIN_PASSWORD_LENGTH && password !== username) return null;
  return `a password of at least ${MIN_PASSWORD_LENGTH} characters, and not the username`;
}
