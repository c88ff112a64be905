import { Ajv, type ValidateFunction } from 'ajv';

/** What of a schema object (OpenAPI 3.0) the fuzz draws from. */
export interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly enum?: readonly (string | number)[];
  readonly pattern?: string;
  readonly format?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly nullable?: boolean;
  readonly example?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
}

interface Media {
  readonly schema?: Schema;
}

/** A parameter of an operation. */
export interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
  readonly required?: boolean;
  readonly schema: Schema;
}

interface OperationObject {
  readonly operationId: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, Media>> };
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, Media>> }>>;
}

/** One operation of the API and where it stands. */
export interface Operation extends OperationObject {
  readonly method: string;
  readonly path: string;
}

interface OpenApi {
  readonly paths: Readonly<Record<string, Readonly<Record<string, OperationObject>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

const REFERENCE = '#/components/schemas/';
const FORMATS = {
  'date-time': /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}(\d{3})?Z$/,
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  byte: /^[A-Za-z0-9+/]*={0,2}$/,
} as const;

/** A running service's OpenAPI document. */
export class ApiDocument {
  readonly operations: readonly Operation[];
  private readonly ajv = new Ajv({ strict: false, validateSchema: false, formats: FORMATS });

  constructor(private readonly document: OpenApi) {
    this.operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({
        ...operation,
        path,
        method: method.toUpperCase(),
      })),
    );
    this.ajv.addSchema(closed(document) as object, 'api');
  }

  /** The schema itself, where it is a reference to one. */
  resolve(schema: Schema): Schema {
    if (schema.$ref === undefined) return schema;
    const named = this.document.components.schemas[schema.$ref.slice(REFERENCE.length)];
    if (!named) throw new Error(`${schema.$ref} is not in the document`);
    return named;
  }

  /** The schema of an operation's JSON body; undefined: it takes none. */
  bodyOf({ requestBody }: Operation): Schema | undefined {
    const schema = requestBody?.content['application/json']?.schema;
    return schema && this.resolve(schema);
  }

  /** @returns what is wrong with an answer of this operation; null: the document says as much. */
  complaint(operation: Operation, status: number, mediaType: string, body: string): string | null {
    const response = operation.responses[status];
    if (!response) return `the document has no ${status}`;
    if (!response.content) return null;
    const media = response.content[mediaType];
    if (!media) return `the document has no ${mediaType} for ${status}`;
    if (!media.schema || !/[/+]json$/.test(mediaType)) return null;
    const path = [operation.path, operation.method.toLowerCase(), 'responses', status, 'content', mediaType];
    return this.mismatch(`/paths/${path.map(pointer).join('/')}/schema`, body);
  }

  /** @returns how a text differs from a schema of the document; null: it doesn't. */
  mismatch(schemaAt: string, body: string): string | null {
    const validate = this.ajv.getSchema(`api#${schemaAt}`) as ValidateFunction | undefined;
    if (!validate) return `the document has no ${schemaAt}`;
    let value: unknown;
    try {
      value = JSON.parse(body);
    } catch {
      return 'is not JSON';
    }
    return validate(value) ? null : this.ajv.errorsText(validate.errors);
  }
}

/** A token of a JSON pointer in a URI fragment: RFC 6901, sections 3 and 6. */
function pointer(name: string | number): string {
  return encodeURIComponent(String(name).replaceAll('~', '~0').replaceAll('/', '~1'));
}

/** The document as a schema that refuses fields it does not name. */
function closed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(closed);
  if (typeof value !== 'object' || value === null) return value;
  const copy = Object.fromEntries(Object.entries(value).map(([name, child]) => [name, closed(child)]));
  const isObject = copy['type'] === 'object' && copy['properties'] !== undefined;
  return isObject && copy['additionalProperties'] === undefined
    ? { ...copy, additionalProperties: false }
    : copy;
}
