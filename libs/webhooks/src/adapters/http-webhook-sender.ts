import { lookup as resolve, type LookupAddress } from 'node:dns';
import * as http from 'node:http';
import * as https from 'node:https';
import type { LookupFunction } from 'node:net';
import type { Attempt, Failure } from '../domain/delivery.js';
import { WebhookSender, type OutgoingWebhook } from '../ports/webhook-sender.js';
import type { AddressRules } from './address-rules.js';
import { signatureHeaders } from './webhook-signature.js';

/** CloudEvents 1.0, HTTP protocol binding, section 3.2: structured mode. */
const MEDIA_TYPE = 'application/cloudevents+json; charset=utf-8';
/** Of an answer only the status counts; what follows is read so that the connection can be used again, and no further. */
const MAX_ANSWER_BYTES = 16_384;
const REFUSED = 'ADDRESS_REFUSED';
/** What the server says when it has just closed a connection that was kept open. */
const STALE: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE']);

/** Turns a name into addresses, as `dns.lookup` does with `all`. */
export type Resolver = (
  hostname: string,
  options: { readonly all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/**
 * Sends webhooks over HTTP(S). It connects to permitted addresses only: a name is looked up when it connects, and the address
 * that was checked is the one that is connected to, whatever the name leads to a moment later. Redirects are not followed.
 */
export class HttpWebhookSender extends WebhookSender {
  private readonly agents: { readonly 'http:': http.Agent; readonly 'https:': https.Agent };

  /** @param timeoutMs how long an attempt may take, from the look for the name to the answer's status. */
  constructor(
    private readonly rules: AddressRules,
    private readonly timeoutMs: number,
    resolver: Resolver = resolve,
  ) {
    super();
    const options = { keepAlive: true, lookup: guarded(resolver, rules) };
    this.agents = { 'http:': new http.Agent(options), 'https:': new https.Agent(options) };
  }

  refuses(url: string): boolean {
    return this.rules.refusesHost(new URL(url));
  }

  async send(message: OutgoingWebhook): Promise<Attempt> {
    const url = new URL(message.url);
    // Of addresses there is no look-up.
    if (this.rules.refusesHost(url)) return failed('address_refused');
    const signal = AbortSignal.timeout(this.timeoutMs);
    const first = await this.request(url, message, signal);
    return first === 'stale' ? this.once(url, message, signal) : first;
  }

  close(): void {
    this.agents['http:'].destroy();
    this.agents['https:'].destroy();
  }

  private async once(url: URL, message: OutgoingWebhook, signal: AbortSignal): Promise<Attempt> {
    const second = await this.request(url, message, signal);
    return second === 'stale' ? failed('connection_failed') : second;
  }

  /** @returns `stale`: a connection that was kept open had been closed by then. It says nothing of the receiver. */
  private request(url: URL, message: OutgoingWebhook, signal: AbortSignal): Promise<Attempt | 'stale'> {
    const { key, messageId, body } = message;
    const { request, agent } =
      url.protocol === 'https:'
        ? { request: https.request, agent: this.agents['https:'] }
        : { request: http.request, agent: this.agents['http:'] };
    const headers = {
      'content-type': MEDIA_TYPE,
      'content-length': Buffer.byteLength(body),
      'user-agent': 'mqtt-service',
      ...signatureHeaders(key, messageId, Math.floor(Date.now() / 1_000), body),
    };
    return new Promise((settle) => {
      const sent = request(url, { method: 'POST', headers, agent, signal });
      sent.on('response', (answer) => {
        settle(judged(answer.statusCode ?? 0));
        discard(answer);
      });
      sent.on('error', (error) => {
        const isStale = sent.reusedSocket && STALE.has(codeOf(error));
        settle(isStale ? 'stale' : failed(signal.aborted ? 'timeout' : failureOf(error)));
      });
      // Such as after 101 Switching Protocols, which is no answer.
      sent.on('close', () => settle(failed('connection_failed')));
      sent.end(body);
    });
  }
}

/** A look-up that finds permitted addresses only. */
function guarded(resolver: Resolver, rules: AddressRules): LookupFunction {
  return (hostname, options, callback) => {
    resolver(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) {
        callback(error, '', 0);
        return;
      }
      const permitted = addresses.filter(({ address }) => rules.permits(address));
      const [first] = permitted;
      if (!first) callback(Object.assign(new Error('no permitted address'), { code: REFUSED }), '', 0);
      else if (options.all) callback(null, permitted);
      else callback(null, first.address, first.family);
    });
  };
}

function discard(answer: http.IncomingMessage): void {
  let bytes = 0;
  answer.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) answer.destroy();
  });
  answer.on('error', () => undefined);
}

function judged(status: number): Attempt {
  if (status >= 200 && status < 300) return { taken: true, status };
  if (status === 410) return { taken: false, status, failure: 'gone' };
  return { taken: false, status, failure: status >= 300 && status < 400 ? 'redirected' : 'http_error' };
}

function failed(failure: Failure): Attempt {
  return { taken: false, status: null, failure };
}

function failureOf(error: Error): Failure {
  const code = codeOf(error);
  if (code === REFUSED) return 'address_refused';
  if (/^(ENOTFOUND|EAI_)/.test(code)) return 'name_not_resolved';
  if (/^(ERR_TLS|ERR_SSL|EPROTO|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED)/.test(code)) return 'tls_failed';
  return 'connection_failed';
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : '';
}
