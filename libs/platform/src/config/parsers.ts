// What the text of a variable may be. Each throws an Error whose message says what was expected.
import { createPublicKey } from 'node:crypto';
import { accessSync, constants } from 'node:fs';
import { isIP } from 'node:net';
import { parseDuration } from '#kernel';

export const text = (value: string): string => value;

export const optional =
  <T>(parse: (value: string) => T) =>
  (value: string): T | undefined =>
    value === '' ? undefined : parse(value);

export const integer =
  (low: number, high: number) =>
  (value: string): number => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < low || number > high) {
      throw new Error(`expected a whole number from ${low} to ${high}`);
    }
    return number;
  };

export const port = integer(1, 65_535);

export const boolean = (value: string): boolean => {
  if (value === 'true') return true;
  if (value === 'false') return false;
  throw new Error('expected true or false');
};

export const oneOf =
  <const T extends string>(...choices: readonly T[]) =>
  (value: string): T => {
    const found = choices.find((choice) => choice.toLowerCase() === value.toLowerCase());
    if (found === undefined) throw new Error(`expected one of ${choices.join(', ')}`);
    return found;
  };

/** To the letter: what is nearly right must not pass for something else. */
export const exactly =
  <const T extends string>(...choices: readonly T[]) =>
  (value: string): T => {
    const found = choices.find((choice) => choice === value);
    if (found === undefined) throw new Error(`expected ${choices.join(', ')}, in small letters`);
    return found;
  };

export const duration = (value: string): number => {
  const ms = parseDuration(value);
  if (ms === null) throw new Error('expected a duration such as 500ms, 30s, 5m, 1h or 7d');
  return ms;
};

const DAY_MS = 86_400_000;
const MIN_RSA_BITS = 2_048;

export const retention = (value: string): number => {
  const ms = parseDuration(value);
  if (ms === null || ms < DAY_MS || ms > 36_500 * DAY_MS) {
    throw new Error('expected a duration from 1d to 36500d, such as 365d');
  }
  return ms;
};

export const secondsToAnHour = (value: string): number => {
  const ms = parseDuration(value);
  if (ms === null || ms < 1_000 || ms > 3_600_000) throw new Error('expected a duration from 1s to 1h');
  return ms;
};

export const minuteToADay = (value: string): number => {
  const ms = parseDuration(value);
  if (ms === null || ms < 60_000 || ms > DAY_MS) throw new Error('expected a duration from 1m to 1d');
  return ms;
};

export const list = (value: string): readonly string[] =>
  value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');

/** Origins as browsers send them: scheme, host, and a port that is not the scheme's own. */
export const origins = (value: string): readonly string[] => {
  const items = list(value);
  if (!items.every((item) => /^https?:/.test(item) && URL.canParse(item) && new URL(item).origin === item)) {
    throw new Error('expected origins such as https://ward.example, comma-separated');
  }
  return items;
};

/** Which proxies may say who the client is: a number of hops, or where they are. Not all: anyone could claim any address. */
export const proxies = (value: string): number | readonly string[] => {
  if (/^[1-9]$/.test(value)) return Number(value);
  const items = list(value);
  if (!items.every((item) => /^(loopback|linklocal|uniquelocal)$/.test(item) || isNetwork(item))) {
    throw new Error('expected a number of hops (1-9), or addresses and networks, or loopback, uniquelocal');
  }
  return items;
};

/** Addresses and networks, such as 10.1.0.0/16. */
export const networks = (value: string): readonly string[] => {
  const items = list(value);
  if (!items.every(isNetwork)) throw new Error('expected addresses and networks, such as 10.1.0.0/16');
  return items;
};

function isNetwork(text: string): boolean {
  const [address = '', bits, more] = text.split('/');
  const version = isIP(address);
  if (version === 0 || more !== undefined) return false;
  return (
    bits === undefined ||
    (/^\d{1,3}$/.test(bits) && Number(bits) > 0 && Number(bits) <= (version === 4 ? 32 : 128))
  );
}

/** A device topic: exactly one `+`, which stands for the device id, and no `#`. */
export const deviceTopic = (value: string): string => {
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

export const topicPrefix = (value: string): string => {
  if (/[+#\0]|^\$|^\/|\/$/.test(value))
    throw new Error('expected a topic prefix without wildcards, such as events');
  return value;
};

/** MQTT 5, section 4.8.2: at least one character, none of them / + # */
export const sharedGroup = (value: string): string => {
  if (/[/+#\0]/.test(value)) throw new Error('expected a name without / + and #');
  return value;
};

export const postgresUrl = (value: string): string => {
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

export const httpUrl = (value: string): string => {
  if (!/^https?:\/\//.test(value) || !URL.canParse(value)) throw new Error('expected an http(s) address');
  return value;
};

/** A PEM text; where it had to be written on one line, with `\n` for its line ends. */
export const publicKey = (value: string): string => {
  const pem = value.replaceAll('\\n', '\n');
  try {
    const { asymmetricKeyType, asymmetricKeyDetails } = createPublicKey(pem);
    if (asymmetricKeyDetails?.namedCurve === 'prime256v1') return pem;
    // RFC 7518, section 3.3
    if (asymmetricKeyType === 'rsa' && (asymmetricKeyDetails?.modulusLength ?? 0) >= MIN_RSA_BITS) return pem;
  } catch {
    // Refused below; what OpenSSL says of it helps nobody.
  }
  throw new Error(`expected a PEM public key, RSA of at least ${MIN_RSA_BITS} bits or P-256`);
};

/** The path of a file that is there and may be read. */
export const file = (value: string): string => {
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
