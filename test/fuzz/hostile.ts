import fc, { type Arbitrary } from 'fast-check';

export type Json = unknown;

/** Stands, as a JSON text, for what JSON.stringify would not write. */
const RAW = /"@raw:([^"]*)"/g;
const raw = (text: string): string => `@raw:${text}`;

/** Where numbers stop being exact, or whole, or numbers of 32 bits. */
export const NUMBERS = [
  ...[
    0, -0, 1, -1, 1.5, 2, 1_000, 1_001, 32_767, 32_768, 65_536, 2_147_483_647, 2_147_483_648, -2_147_483_649,
  ],
  ...[2 ** 53 - 1, 2 ** 53, -(2 ** 53), 2 ** 63, 2 ** 64, 1e21, 1e-7, 1.797e308, 5e-324],
];
const NUMERALS = [
  '1e400',
  '-1e400',
  '01',
  '+1',
  '.5',
  '1.',
  'NaN',
  'Infinity',
  '-',
  '0x10',
  '1_000',
  '9'.repeat(400),
];
/** Times that do not exist, that PostgreSQL alone knows, or that only look like one. */
export const DATES = [
  ...[
    '0000-01-01T00:00:00Z',
    '0001-01-01T00:00:00Z',
    '0001-01-01T00:00:00+14:00',
    '0000-12-31T23:59:59-00:01',
  ],
  ...['9999-12-31T23:59:59.999999Z', '9999-12-31T23:59:59.999999999-23:59', '10000-01-01T00:00:00Z'],
  ...[
    '+275760-09-13T00:00:00.000Z',
    '+275760-09-13T00:00:00.001Z',
    '-271821-04-20T00:00:00Z',
    '294277-01-01T00:00:00Z',
  ],
  ...[
    '4714-11-24T00:00:00Z BC',
    'infinity',
    '-infinity',
    'now',
    'epoch',
    'allballs',
    '1970-01-01',
    '20240101T000000Z',
  ],
  ...[
    '1900-02-29T00:00:00Z',
    '2024-02-29T23:59:60Z',
    '2024-02-30T00:00:00Z',
    '2024-01-01T24:00:00Z',
    '2024-13-01T00:00:00Z',
  ],
  ...[
    '2024-01-01T00:00:00',
    '2024-01-01t00:00:00z',
    '2024-01-01 00:00:00 02:00',
    '2024-01-01T00:00:00+24:00',
    '２０２４-01-01T00:00:00Z',
  ],
];
const TEXTS = [
  ...[
    '',
    ' ',
    '.',
    '..',
    '/',
    '\\',
    '\u0000',
    'a\u0000b',
    '\ud800',
    'a\udfff',
    '\udc00\ud800',
    '\u202e',
    '\ufeff',
    '\ufffe',
  ],
  ...[
    '__proto__',
    'constructor',
    'prototype',
    'toString',
    'hasOwnProperty',
    'null',
    'undefined',
    'true',
    '[object Object]',
  ],
  ...[
    "' OR 1=1 --",
    '$1',
    '%s%n',
    '${7*7}',
    '{{7*7}}',
    '<script>',
    '../../etc/passwd',
    'devices/+/data',
    '#',
    '$share/a/#',
  ],
  ...[
    'İ',
    'ß',
    '💉',
    'e\u0301'.repeat(60),
    '👨‍👩‍👧‍👦'.repeat(30),
    'a\r\nb',
    '\u2028',
    'x'.repeat(100),
    'x'.repeat(101),
    'x'.repeat(256),
  ],
  ...[
    'x'.repeat(5_000),
    '999999999d',
    '999999999h',
    '0s',
    '0ms',
    '1ms',
    '1d',
    '5M',
    '-5m',
    '1e3s',
    'avg,avg',
    ',',
    'avg,',
  ],
];
/** Percent-encoded parts of an address that are none, or stand for what is no text. */
export const ESCAPES = [
  '%',
  '%2',
  '%zz',
  '%00',
  '%0a',
  '%FF',
  '%C0%80',
  '%ED%A0%80',
  '%E0%A4%A',
  '%F4%90%80%80',
  '%2F',
  '%2e%2e',
  '%252e',
  '+',
  '%20',
];

const deep = (depth: number): string => raw(`${'['.repeat(depth)}${']'.repeat(depth)}`);
/** Bodies that are no JSON, or more of it than anybody asked for. */
export const DOCUMENTS = [
  ...[
    'null',
    'true',
    '0',
    '""',
    '[]',
    '{}',
    '[[]]',
    '[{}]',
    '{',
    '{"a":',
    '{"a":1,}',
    "{'a':1}",
    '{"a":1}{"b":2}',
    '\ufeff{}',
  ],
  ...[
    'undefined',
    '{"a":1,"a":2}',
    '{"__proto__":{"a":1}}',
    '{"constructor":{"prototype":{"a":1}}}',
    '{"a":"\\ud800"}',
    '{"\\u0000":1}',
  ],
  ...[
    '['.repeat(50_000),
    `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`,
    `"${'x'.repeat(102_401)}"`,
    ' '.repeat(102_000),
  ],
];

/** Any text. */
export const text = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...TEXTS) },
  { weight: 1, arbitrary: fc.constantFrom(...DATES) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 60 }) },
);
/** Any value, and what only looks like one. */
export const hostileJson: Arbitrary<Json> = fc.oneof(
  { weight: 4, arbitrary: text },
  { weight: 3, arbitrary: fc.constantFrom(...NUMBERS) },
  { weight: 1, arbitrary: fc.constantFrom(...NUMERALS.map(raw), deep(40), deep(5_000)) },
  {
    weight: 2,
    arbitrary: fc.constantFrom<Json>(null, true, false, [], {}, [[]], ['x'], [1], { a: 1 }, [null]),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(raw('{"__proto__":{"a":1}}'), raw('{"a":1,"a":2}'), raw('"\\ud800"')),
  },
  { weight: 2, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
);

/** An example with other numbers in it: `5m` becomes `999999999m`. */
export const renumbered = (example: string): Arbitrary<string> =>
  fc
    .constantFrom(
      '0',
      '1',
      '7',
      '00',
      '999999',
      '104000000',
      '999999999',
      '2147483648',
      '9007199254740993',
      '-1',
      '1.5',
      '１',
    )
    .map((numeral) => example.replaceAll(/\d+/g, numeral));

/** A time as a client would write it. */
export const date = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .date({ min: new Date(0), max: new Date('2030-01-01'), noInvalidDate: true })
      .map((at) => at.toISOString()),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '2024-01-01T00:00:00+02:00',
      '0001-01-01T00:00:00Z',
      '9999-12-31T23:59:59.999999Z',
    ),
  },
);

/** A page cursor with a part exchanged for one that no service gives. */
export const forged = (cursors: readonly string[]): Arbitrary<string> =>
  fc
    .tuple(
      fc.constantFrom(...cursors),
      fc.nat(2),
      fc.oneof(fc.constantFrom<Json>(...NUMBERS), fc.constantFrom<Json>(...DATES, ...TEXTS), hostileJson),
      fc.boolean(),
    )
    .map(([cursor, at, part, extended]) => {
      const key = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as Json[];
      const place = extended ? at : at % key.length;
      return Buffer.from(written(Object.assign([...key], { [place]: part }))).toString('base64url');
    });

/** JSON, with what stands for other texts replaced by them. */
export function written(value: Json): string {
  return (JSON.stringify(value) ?? '').replaceAll(RAW, (_whole, text: string) => text.replaceAll('\\"', '"'));
}

/** A text as it stands in an address. */
export function escaped(value: Json): string {
  const plain = typeof value === 'string' ? value.replace(/^@raw:/, '') : (JSON.stringify(value) ?? '');
  return [...plain].map((point) => (point.isWellFormed() ? encodeURIComponent(point) : '%ED%A0%80')).join('');
}
