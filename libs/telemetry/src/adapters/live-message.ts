import { DomainError, EVENT_TYPES, findJsonFlaw, isPatientId, type EventType } from '#kernel';
import { isDeviceId } from '#devices';
import { expandMetricTypes, METRIC_NAME_PATTERN } from '#readings';
import type { StreamFilter } from '../domain/stream-filter.js';
import { StreamPosition } from '../domain/stream-position.js';

/** What a client may say on the WebSocket (contract, "WebSocket"). */
export type ClientMessage =
  | { readonly event: 'authenticate'; readonly token: string }
  | (Wish & { readonly event: 'subscribe'; readonly echo: Readonly<Record<string, unknown>> })
  | { readonly event: 'unsubscribe' }
  | { readonly event: 'ping' };

const MAX_LIST = 1_000;
const METRIC_NAME = new RegExp(`^${METRIC_NAME_PATTERN}$`);
const KNOWN_EVENTS: ReadonlySet<unknown> = new Set(EVENT_TYPES);
const WISH_FIELDS = ['device_ids', 'patient_ids', 'metric_types', 'events', 'since'] as const;

/**
 * Reads a client's message.
 * @throws DomainError invalid, with the code and message to answer with.
 */
export function parseClientMessage(text: string): ClientMessage {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    throw invalid('invalid_json', 'The message is not valid JSON.');
  }
  if (!isObject(message) || typeof message['event'] !== 'string') {
    throw invalid('invalid_message', 'A message is an object with an event and, where it needs one, data.');
  }
  const flaw = findJsonFlaw(message);
  if (flaw) throw invalid('invalid_message', `${flaw.path || 'The message'} ${flaw.reason}.`);
  const data = message['data'] ?? {};
  if (!isObject(data)) throw invalid('invalid_message', 'data is not an object.');
  switch (message['event']) {
    case 'authenticate':
      if (typeof data['token'] !== 'string') throw invalid('invalid_message', 'data.token is not a text.');
      return { event: 'authenticate', token: data['token'] };
    case 'subscribe':
      return { event: 'subscribe', ...readSubscription(data), echo: data };
    case 'unsubscribe':
      return { event: 'unsubscribe' };
    case 'ping':
      return { event: 'ping' };
    default:
      throw invalid('unknown_event', 'Known are authenticate, subscribe, unsubscribe and ping.');
  }
}

/** A subscription that can not be read, and would have gone on from somewhere: what it missed is still to be told. */
export class UnreadableResume extends DomainError {}

/** What of the stream somebody wants, and from where on. */
export interface Wish {
  readonly filter: StreamFilter;
  /** Null: from now on. */
  readonly since: StreamPosition | null;
}

/**
 * Reads a wish out of an address: the fields of a subscription, lists with commas.
 * @throws DomainError invalid, as {@link parseClientMessage} does.
 */
export function wishOf(query: URLSearchParams): Wish {
  const data: Record<string, unknown> = {};
  for (const field of WISH_FIELDS) {
    const [text, more] = query.getAll(field);
    if (more !== undefined) throw invalid('invalid_message', `${field} stands there twice.`);
    if (text === undefined) continue;
    data[field] =
      field === 'since'
        ? text
        : text
            .split(',')
            .map((item) => (field === 'patient_ids' && /^\d+$/.test(item) ? Number(item) : item));
  }
  return readWish(data);
}

function readSubscription(data: Readonly<Record<string, unknown>>): Wish {
  try {
    return readWish(data);
  } catch (error) {
    if (!(error instanceof DomainError) || data['since'] === undefined) throw error;
    throw new UnreadableResume(error.kind, error.code, error.message, error.errors);
  }
}

function readWish(data: Readonly<Record<string, unknown>>): Wish {
  const unknown = Object.keys(data).find((field) => !(WISH_FIELDS as readonly string[]).includes(field));
  if (unknown !== undefined) throw invalid('invalid_message', `data.${unknown} is not a known field.`);
  const { since } = data;
  if (since !== undefined && typeof since !== 'string')
    throw invalid('invalid_message', 'data.since is not a text.');
  return { filter: readFilter(data), since: since === undefined ? null : StreamPosition.parse(since) };
}

function readFilter(data: Readonly<Record<string, unknown>>): StreamFilter {
  const deviceIds = readList(
    data,
    'device_ids',
    'ids of devices',
    (item): item is string => typeof item === 'string' && isDeviceId(item),
  );
  const patientIds = readList(data, 'patient_ids', 'ids of patients', isPatientId);
  // One that is not known measures nothing yet, as in a question for the history.
  const metricTypes = readList(
    data,
    'metric_types',
    'names of metrics',
    (item): item is string => typeof item === 'string' && METRIC_NAME.test(item),
  );
  const events = readList(data, 'events', 'types of events', (item): item is EventType =>
    KNOWN_EVENTS.has(item),
  );
  return {
    ...(deviceIds && { deviceIds: new Set(deviceIds) }),
    ...(patientIds && { patientIds: new Set(patientIds) }),
    ...(metricTypes && {
      metricTypes: new Set([...metricTypes, ...expandMetricTypes(metricTypes)]),
    }),
    ...(events && { events: new Set(events) }),
  };
}

function readList<T>(
  data: Readonly<Record<string, unknown>>,
  field: string,
  what: string,
  accepts: (item: unknown) => item is T,
): readonly T[] | undefined {
  const list = data[field];
  if (list === undefined) return undefined;
  const items: readonly unknown[] | null = Array.isArray(list) ? list : null;
  if (!items || items.length > MAX_LIST || !items.every(accepts)) {
    const message = `is not a list of up to ${MAX_LIST} ${what}`;
    throw new DomainError('invalid', 'invalid_message', `data.${field} ${message}.`, [{ field, message }]);
  }
  return items;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function invalid(code: string, message: string): DomainError {
  return new DomainError('invalid', code, message);
}
