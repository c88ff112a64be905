import { gzipSync } from 'node:zlib';
import fc, { type Arbitrary } from 'fast-check';
import type { ApiDocument, Operation, Parameter, Schema } from './document.js';
import type { Spoil, WireRequest } from './exchange.js';
import {
  DATES,
  date,
  DOCUMENTS,
  escaped,
  ESCAPES,
  forged,
  hostileJson,
  NUMBERS,
  renumbered,
  text,
  written,
  type Json,
} from './hostile.js';

/** A request, and what it was drawn from. */
export interface Drawn {
  readonly operation: Operation;
  /** Whether it asks for the operation by its own method and address, however wrong the rest of it is. */
  readonly intact: boolean;
  readonly request: WireRequest;
  readonly spoil: Spoil | null;
}

/** What the service knows, so that valid requests find something. */
export interface Known {
  /** By the name of the parameter or field. */
  readonly values: Readonly<Record<string, readonly string[]>>;
  /** Cursors the service gave. */
  readonly cursors: readonly string[];
  /** Values of Authorization, each as often as it should be drawn. */
  readonly authorizations: readonly (readonly [weight: number, value: string | null])[];
  /** What brokers say instead. */
  readonly brokerSecret: string;
}

/** Draws requests from an OpenAPI document: valid ones, and ones that are wrong in some place. */
export class RequestSource {
  constructor(
    private readonly document: ApiDocument,
    private readonly known: Known,
  ) {}

  /** Requests of all operations, seldom of those that take nothing. */
  arbitrary(operations: readonly Operation[] = this.document.operations): Arbitrary<Drawn> {
    return fc.oneof(
      ...operations.map((operation) => ({
        weight: (operation.parameters?.length ?? 0) > 0 || operation.requestBody ? 6 : 1,
        arbitrary: fc.oneof(
          // Valid, wrong in one place as a rule, and wrong in several.
          { weight: 2, arbitrary: this.requests(operation, 0) },
          { weight: 4, arbitrary: this.requests(operation, 1) },
          { weight: 2, arbitrary: this.requests(operation, 3) },
        ),
      })),
    );
  }

  /** @param wrong how many of ten parts are to be wrong. */
  private requests(operation: Operation, wrong: number): Arbitrary<Drawn> {
    const either = <Value>(right: Arbitrary<Value>, amiss: Arbitrary<Value>): Arbitrary<Value> =>
      wrong === 0
        ? right
        : fc.oneof({ weight: 10 - wrong, arbitrary: right }, { weight: wrong, arbitrary: amiss });
    const seldom = <Value>(usual: Value, amiss: Arbitrary<Value>): Arbitrary<Value> =>
      wrong === 0
        ? fc.constant(usual)
        : fc.oneof({ weight: 19, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: amiss });
    const parameters = operation.parameters ?? [];
    return fc
      .record({
        method: seldom(
          operation.method,
          fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND'),
        ),
        path: this.path(operation, parameters, either),
        bend: seldom('', fc.constantFrom('/', '//', '/..', '/%2e%2e/', ';a=1', '%00', '/x', '#x', '\u00ff')),
        query: this.query(parameters, either, wrong),
        authorization: this.authorization(operation, wrong),
        headers: this.headers(operation, wrong),
        body: this.body(operation, either, seldom),
        chunked: fc.oneof(
          { weight: 9, arbitrary: fc.constant(false) },
          { weight: 1, arbitrary: fc.constant(true) },
        ),
        spoil: seldom<Spoil | null>(null, spoils),
      })
      .map(({ method, path, bend, query, authorization, headers, body, chunked, spoil }) => ({
        operation,
        intact: method === operation.method && isAddressOf(operation, `${path}${bend}`) && spoil === null,
        request: {
          method,
          target: `${path}${bend}${query === '' ? '' : `?${query}`}`,
          headers: [
            ...(authorization === null ? [] : [['authorization', authorization] as const]),
            ...headers,
          ],
          body: method === 'TRACE' ? null : body,
          chunked: chunked && body !== null,
        },
        spoil,
      }));
  }

  private path(operation: Operation, parameters: readonly Parameter[], either: Either): Arbitrary<string> {
    const names = [...operation.path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name);
    const values = names.map((name) => {
      const parameter = parameters.find((each) => each.in === 'path' && each.name === name);
      return either(
        // Decommissioned devices have little left to be asked for, so not all of them may become that.
        this.valid(operation.method === 'DELETE' ? 'doomed_id' : name, parameter?.schema ?? {}).map(escaped),
        fc.oneof(
          hostileJson.map(escaped),
          fc.constantFrom(...ESCAPES),
          fc.constantFrom(...ESCAPES).map((one) => `a${one}`),
        ),
      );
    });
    return fc
      .tuple(...values)
      .map((drawn) =>
        names.reduce((path, name, at) => path.replace(`{${name}}`, () => drawn[at] ?? ''), operation.path),
      );
  }

  private query(parameters: readonly Parameter[], either: Either, wrong: number): Arbitrary<string> {
    const pairs = parameters
      .filter((parameter) => parameter.in === 'query')
      .map(({ name, schema }) =>
        perhaps(
          3,
          either(
            this.valid(name, schema).map((value) => `${name}=${escaped(value)}`),
            fc.oneof(
              {
                weight: 6,
                arbitrary: this.nearlyValid(name, schema).map((value) => `${name}=${escaped(value)}`),
              },
              { weight: 1, arbitrary: fc.constantFrom(...ESCAPES).map((one) => `${name}=${one}`) },
              {
                weight: 1,
                arbitrary: this.valid(name, schema)
                  .map(escaped)
                  .chain((value) =>
                    fc.constantFrom(
                      `${name}=${value}&${name}=${value}`,
                      `${name}[]=${value}`,
                      `${name}[a]=${value}`,
                      name,
                      `${name}=`,
                    ),
                  ),
              },
            ),
          ),
        ),
      );
    const stray = fc.constantFrom(
      '__proto__=1',
      '__proto__[a]=1',
      'constructor[prototype][a]=1',
      'x=1',
      '=',
      '&&',
      '%',
      '%00=1',
      'a[]=1&a[]=2',
    );
    return fc
      .tuple(fc.tuple(...pairs), wrong === 0 ? fc.constant(null) : perhaps(12, stray))
      .map(([drawn, more]) => [...drawn, more].filter((pair) => pair !== null).join('&'));
  }

  private authorization({ path }: Operation, wrong: number): Arbitrary<string | null> {
    const usual = path.startsWith('/mqtt/')
      ? [{ weight: 1, arbitrary: fc.constant<string | null>(`Bearer ${this.known.brokerSecret}`) }]
      : this.known.authorizations.map(([weight, value]) => ({ weight, arbitrary: fc.constant(value) }));
    const amiss = fc.constantFrom(
      null,
      '',
      'Bearer',
      'Bearer ',
      'Basic YTpi',
      'Bearer a.b.c',
      'Bearer \u00ff',
      `Bearer ${'A'.repeat(7_000)}`,
      'Bearer e30.e30.e30',
    );
    const known = fc.oneof(...usual);
    return wrong === 0 ? known : fc.oneof({ weight: 24, arbitrary: known }, { weight: 1, arbitrary: amiss });
  }

  private headers({ requestBody }: Operation, wrong: number): Arbitrary<(readonly [string, string])[]> {
    const json = requestBody ? [['content-type', 'application/json'] as const] : [];
    if (wrong === 0) return fc.constant(json);
    const contentType = fc.oneof(
      { weight: 14, arbitrary: fc.constant(json) },
      {
        weight: 1,
        arbitrary: fc.constantFrom(...MEDIA_TYPES).map((value) => [['content-type', value] as const]),
      },
    );
    const more = fc.oneof(
      { weight: 12, arbitrary: fc.constant<readonly (readonly [string, string])[]>([]) },
      { weight: 3, arbitrary: fc.constantFrom(...ACCEPTS).map((value) => [['accept', value] as const]) },
      { weight: 3, arbitrary: fc.constantFrom(...STRAY_HEADERS).map((header) => [header]) },
      {
        weight: 1,
        arbitrary: fc
          .tuple(
            fc.constantFrom('x-request-id', 'idempotency-key', 'x-forwarded-for', 'cookie', 'origin', 'host'),
            text,
          )
          .map(([name, value]) => [[name, headerValue(value)] as const]),
      },
    );
    return fc.tuple(contentType, more).map(([type, others]) => [...type, ...others]);
  }

  private body(operation: Operation, either: Either, seldom: Seldom): Arbitrary<Buffer | null> {
    const schema = this.document.bodyOf(operation);
    if (!schema) {
      return seldom<Buffer | null>(
        null,
        fc.constantFrom('{}', '{"a":1}', '[', 'x').map((one) => Buffer.from(one)),
      );
    }
    const fields = Object.entries(schema.properties ?? {});
    const record = fc.record(
      Object.fromEntries(
        fields.map(([name, field]) => [name, either(this.fresh(name, field), this.nearlyValid(name, field))]),
      ),
      { requiredKeys: [...(schema.required ?? [])] },
    );
    const more = either(
      fc.constant({}),
      fc.dictionary(fc.oneof(text, ...fields.map(([name]) => fc.constant(name))), hostileJson, {
        maxKeys: 2,
      }),
    );
    const whole = fc
      .tuple(record, more)
      .map(([body, others]) => Buffer.from(written({ ...body, ...others })));
    return fc.oneof(
      { weight: 15, arbitrary: whole },
      {
        weight: 1,
        arbitrary: seldom<((bytes: Buffer) => Buffer) | null>(null, fc.constantFrom(...BODY_FLAWS)).chain(
          (flaw) => whole.map((bytes) => (flaw ? flaw(bytes) : bytes)),
        ),
      },
      {
        weight: 1,
        arbitrary: either(
          whole,
          fc.constantFrom(...DOCUMENTS).map((one) => Buffer.from(one)),
        ),
      },
      {
        weight: 1,
        arbitrary: either(
          whole,
          whole.chain((bytes) => fc.constantFrom(...BODY_FLAWS).map((flaw) => flaw(bytes))),
        ),
      },
    );
  }

  /** What is valid in a body, where it need not be known yet. */
  private fresh(name: string, schema: Schema): Arbitrary<Json> {
    if (schema.pattern === undefined) return this.valid(name, schema);
    return fc.oneof(this.valid(name, schema), fc.stringMatching(new RegExp(schema.pattern)));
  }

  private valid(name: string, schema: Schema): Arbitrary<Json> {
    const known = this.known.values[name];
    if (known) {
      return schema.type === 'integer' ? fc.constantFrom(...known.map(Number)) : fc.constantFrom(...known);
    }
    if (name === 'cursor') return fc.constantFrom(...this.known.cursors);
    if (schema.enum) return fc.constantFrom(...schema.enum);
    if (schema.format === 'date-time') return date;
    if (schema.format === 'uuid') return fc.uuid();
    if (schema.pattern !== undefined) return fc.stringMatching(new RegExp(schema.pattern));
    if (schema.type === 'integer') {
      return fc.integer({ min: schema.minimum ?? 1, max: Math.min(schema.maximum ?? 9, 2_147_483_647) });
    }
    if (schema.type === 'object') {
      return fc.dictionary(
        fc.stringMatching(/^[a-z_]{1,12}$/),
        fc.oneof(fc.integer(), fc.string(), fc.boolean()),
        { maxKeys: 4 },
      );
    }
    const example = typeof schema.example === 'string' ? schema.example : 'text';
    return schema.maxLength === undefined
      ? fc.constant(example)
      : fc.string({ minLength: 1, maxLength: schema.maxLength, unit: 'grapheme' });
  }

  /** What is valid but for one thing, or wrong altogether. */
  private nearlyValid(name: string, schema: Schema): Arbitrary<Json> {
    const bounds = [schema.minimum, schema.maximum]
      .filter((bound) => bound !== undefined)
      .flatMap((bound) => [bound - 1, bound, bound + 1]);
    return fc.oneof(
      { weight: 3, arbitrary: hostileJson },
      { weight: 1, arbitrary: this.valid(name, schema).map((value) => [value]) },
      {
        weight: 3,
        arbitrary: this.valid(name, schema).map((value) =>
          typeof value === 'string' ? `${value}\u0000` : JSON.stringify(value),
        ),
      },
      ...(bounds.length > 0 ? [{ weight: 3, arbitrary: fc.constantFrom<Json>(...bounds) }] : []),
      ...(schema.type === 'integer' ? [{ weight: 2, arbitrary: fc.constantFrom<Json>(...NUMBERS) }] : []),
      ...(schema.maxLength === undefined
        ? []
        : [{ weight: 1, arbitrary: fc.constant<Json>('x'.repeat(schema.maxLength + 1)) }]),
      ...(schema.format === 'date-time' ? [{ weight: 6, arbitrary: fc.constantFrom<Json>(...DATES) }] : []),
      ...(schema.type === 'string' && schema.enum === undefined
        ? [
            {
              weight: 3,
              arbitrary: this.valid(name, schema).chain((value) => renumbered(String(value))),
            },
          ]
        : []),
      ...(name === 'cursor' ? [{ weight: 12, arbitrary: forged(this.known.cursors) }] : []),
    );
  }
}

type Either = <Value>(right: Arbitrary<Value>, amiss: Arbitrary<Value>) => Arbitrary<Value>;
type Seldom = <Value>(usual: Value, amiss: Arbitrary<Value>) => Arbitrary<Value>;

/** Whether a path, with nothing left out of it, is one of the operation's. */
function isAddressOf(operation: Operation, path: string): boolean {
  const [parts, wanted] = [path.split('/'), operation.path.split('/')];
  return (
    parts.length === wanted.length &&
    wanted.every((part, at) => (part.startsWith('{') ? parts[at] !== '' : parts[at] === part))
  );
}

/** Once in so many times; null otherwise. */
function perhaps<Value>(times: number, arbitrary: Arbitrary<Value>): Arbitrary<Value | null> {
  return fc.oneof({ weight: times - 1, arbitrary: fc.constant(null) }, { weight: 1, arbitrary });
}

const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const spoils: Arbitrary<Spoil | null> = fc.oneof(
  fc.record({ kind: fc.constant('cut' as const), at: fraction }),
  fc.record({ kind: fc.constant('byte' as const), at: fraction, byte: fc.integer({ min: 0, max: 255 }) }),
);

const BODY_FLAWS: readonly ((bytes: Buffer) => Buffer)[] = [
  () => Buffer.alloc(0),
  (bytes) => bytes.subarray(0, -1),
  (bytes) => bytes.subarray(0, bytes.length / 2),
  (bytes) => Buffer.concat([bytes, bytes]),
  (bytes) => Buffer.concat([Buffer.from([0xff, 0xfe]), bytes]),
  (bytes) => Buffer.from(bytes.toString(), 'utf16le'),
  (bytes) => Buffer.concat([bytes.subarray(0, -1), Buffer.from([0xc0, 0x80]), bytes.subarray(-1)]),
  (bytes) => gzipSync(bytes),
  () => gzipSync(Buffer.alloc(200_000, ' ')),
  (bytes) => gzipSync(bytes).subarray(0, -4),
  (bytes) => Buffer.concat([bytes.subarray(0, -1), Buffer.from(`,"x":"${'x'.repeat(110_000)}"}`)]),
];
const MEDIA_TYPES = [
  ...[
    'application/json; charset=utf-8',
    'application/json; charset=utf-16',
    'application/json; charset=latin1',
    'application/json; charset=bogus',
  ],
  ...[
    'application/json;;;',
    'application/merge-patch+json',
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
  ],
  ...['', '*/*', 'application/', 'json', '\u00ff', 'application/json; charset="'],
];
const ACCEPTS = [
  ...[
    'application/json',
    'text/csv',
    'application/x-ndjson',
    '*/*',
    'text/*',
    'text/html',
    'application/xml',
    '',
    ',',
  ],
  ...[
    'application/json;q=0',
    'text/csv;q=0.5, application/json;q=x',
    '*/*;q=1e400',
    'garbage',
    '\u00ff/\u00ff',
    'a,'.repeat(2_000),
  ],
];
const STRAY_HEADERS: readonly (readonly [string, string])[] = [
  ...(['gzip', 'deflate', 'br', 'identity', 'compress', 'bogus', 'gzip, gzip'] as const).map(
    (value) => ['content-encoding', value] as const,
  ),
  ...[
    ['if-none-match', '*'] as const,
    ['if-modified-since', 'Thu, 01 Jan 1970 00:00:00 GMT'] as const,
    ['range', 'bytes=0-1'] as const,
  ],
  ...[
    ['expect', '100-continue'] as const,
    ['expect', 'bogus'] as const,
    ['x-http-method-override', 'DELETE'] as const,
  ],
  ...[
    ['x-big', 'x'.repeat(17_000)] as const,
    ['x-big', 'x'.repeat(10_000)] as const,
    ['origin', 'null'] as const,
  ],
  ...[
    ['upgrade', 'websocket'] as const,
    ['connection', 'close'] as const,
    ['te', 'trailers'] as const,
    ['accept-language', '\u00e9'] as const,
  ],
];

/** A text as the bytes a header may hold: Node's client refuses to send control characters. */
function headerValue(value: string): string {
  return Buffer.from(value.replace(/\p{Cc}/gu, ''), 'utf8').toString('latin1');
}
