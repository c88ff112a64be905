import { once } from 'node:events';
import { Agent, request, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import type { Caller } from './callers.js';
import { expected, ruleOf, RULES, type Rule, type Subject } from './http-rules.js';
import type { Service } from './service.js';

/** RFC 9110, section 9.3, and PATCH; without CONNECT, which no client sends to an origin. Deletion comes last. */
export const METHODS = ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;

/** An address, and whose device or what else it is about. */
export interface Place {
  readonly path: string;
  readonly subject: Subject | null;
  /** Whether its body names the device, and not the address. */
  readonly registers: boolean;
}

/** One question, and the answer it should get. */
export interface Question extends Omit<Place, 'registers'> {
  readonly method: string;
  readonly rule: Rule | undefined;
  readonly accept: string;
  readonly right: string;
}

export const agent = new Agent({ keepAlive: true, maxSockets: 16 });

const NOBODYS: Subject = {
  device: 'nobody',
  owner: null,
  deviceId: 'nowhere',
  commandId: '7b0a2b1e-51a5-4a86-9f6c-7f3cf2d9c0aa',
  rejectionId: '999999999',
  webhookId: '7b0a2b1e-51a5-4a86-9f6c-7f3cf2d9c0aa',
};

export async function ask(
  { port }: Service,
  { method, path, rule, subject, accept }: Question,
  authorization: Record<string, string>,
): Promise<{ status: number; body: string }> {
  const body = rule?.body ? JSON.stringify(rule.body(subject ?? NOBODYS)) : '';
  const headers = {
    accept,
    ...authorization,
    ...(body !== '' && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
  };
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, agent, method, path, headers }, (response) => {
      // It would go on for ever: what it begins with is its answer.
      const isStream = response.headers['content-type'] === 'text/event-stream' && method !== 'HEAD';
      const answer = isStream ? beginningOf(response) : text(response);
      answer.then((received) => resolve({ status: response.statusCode ?? 0, body: received }), reject);
    })
      .on('error', reject)
      .end(body);
  });
}

async function beginningOf(response: IncomingMessage): Promise<string> {
  const [chunk] = (await once(response, 'data')) as [Buffer];
  response.destroy();
  return chunk.toString('utf8');
}

/** The status, and of a problem its code. HEAD has no body to look into. */
export function summary(status: number, body: string): string {
  const { code } = status >= 400 && body.startsWith('{') ? (JSON.parse(body) as { code?: string }) : {};
  return code === undefined ? String(status) : `${status} ${code}`;
}

/** Every address of the routes, for each of the devices where it has a place for one. */
export function placesOf(routes: readonly string[], subjects: readonly Subject[]): readonly Place[] {
  const places = routes.flatMap((route): readonly Place[] => {
    const [, path = ''] = route.split(' ');
    const registers: readonly string[] = RULES[route]?.registers ?? [];
    if (registers.length > 0)
      return subjects
        .filter(({ device }) => registers.includes(device))
        .map((subject) => ({ path, subject, registers: true }));
    if (!path.includes(':')) return [{ path, subject: null, registers: false }];
    return [...subjects, NOBODYS].map((subject) => ({
      path: path
        .replace(':device_id', subject.deviceId)
        .replace(':command_id', subject.commandId)
        .replace(':webhook_id', subject.webhookId)
        .replace(':id', subject.rejectionId),
      subject,
      registers: false,
    }));
  });
  const names = places.map(({ path, subject }) => `${path} ${subject?.device}`);
  return places.filter((_place, index) => names.indexOf(names[index] ?? '') === index);
}

export function questionsOf(caller: Caller, method: string, places: readonly Place[]): readonly Question[] {
  return places.flatMap(({ path, subject, registers }) => {
    const rule = ruleOf(method, path);
    // Whose device it is does not matter to a method that is not there.
    if (!rule && subject && subject.device !== 'mine') return [];
    // Where a device is registered, another method takes the last word of the address for a device's id.
    const about = registers && !rule?.registers ? NOBODYS : subject;
    const right = expected(rule, caller, about);
    const ways = [
      ...(rule?.queries ?? ['']).map((query) => ({ query, accept: 'application/json' })),
      ...(rule?.accepts ?? []).map((accept) => ({ query: '', accept })),
    ];
    return ways.map(({ query, accept }) => ({
      method,
      path: path + query,
      subject: about,
      rule,
      accept,
      right,
    }));
  });
}
