import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo } from 'node:net';
import type { LookupAddress } from 'node:dns';
import { AddressRules } from './address-rules.js';
import { HttpWebhookSender, type Resolver } from './http-webhook-sender.js';

const LOOPBACK = { address: '127.0.0.1', family: 4 };
const PRIVATE = { address: '10.0.0.1', family: 4 };

describe('sending', () => {
  let server: Server;
  let requests = 0;
  let answer: (response: ServerResponse) => void;
  const senders: HttpWebhookSender[] = [];

  beforeAll(async () => {
    server = createServer((request, response) => {
      requests += 1;
      request.resume();
      answer(response);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  beforeEach(() => {
    requests = 0;
    answer = (response) => void response.writeHead(200).end();
  });
  afterAll(async () => {
    for (const sender of senders) sender.close();
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });

  /** Each look-up finds the next of the answers; the last one stays. */
  const sending = (
    answers: readonly LookupAddress[][],
    { allowed = ['127.0.0.1'], timeout = 10_000 } = {},
  ): { send: (host?: string) => ReturnType<HttpWebhookSender['send']>; looked: () => number } => {
    let looked = 0;
    const resolver: Resolver = (_name, _options, callback) => {
      const found = answers[Math.min(looked, answers.length - 1)] ?? [];
      looked += 1;
      callback(null, found);
    };
    const sender = new HttpWebhookSender(new AddressRules(allowed), timeout, resolver);
    senders.push(sender);
    const { port } = server.address() as AddressInfo;
    const message = { key: Buffer.alloc(32), messageId: 'msg_1', body: '{}' };
    return {
      send: (host = 'receiver.test') => sender.send({ ...message, url: `http://${host}:${port}/` }),
      looked: () => looked,
    };
  };

  it.each([
    [200, { taken: true, status: 200 }],
    [204, { taken: true, status: 204 }],
    [302, { taken: false, status: 302, failure: 'redirected' }],
    [400, { taken: false, status: 400, failure: 'http_error' }],
    [410, { taken: false, status: 410, failure: 'gone' }],
    [503, { taken: false, status: 503, failure: 'http_error' }],
  ])('takes %i for what it is', async (status, expected) => {
    answer = (response) => void response.writeHead(status, { location: '/elsewhere' }).end();
    expect(await sending([[LOOPBACK]]).send()).toEqual(expected);
    expect(requests).toBe(1);
  });

  it('connects to no address that is refused, whatever a name has led to before', async () => {
    const { send, looked } = sending([[LOOPBACK], [PRIVATE]]);
    // So that the connection is not used again.
    answer = (response) => void response.writeHead(200, { connection: 'close' }).end();
    expect(await send()).toMatchObject({ taken: true });
    expect(await send()).toEqual({ taken: false, status: null, failure: 'address_refused' });
    expect([looked(), requests]).toEqual([2, 1]);
  });

  it('looks a name up once: what was looked at is what is connected to', async () => {
    const { send, looked } = sending([[LOOPBACK], [PRIVATE]]);
    expect(await send()).toMatchObject({ taken: true });
    expect(looked()).toBe(1);
  });

  it('leaves out of several addresses those that are refused', async () => {
    expect(await sending([[PRIVATE, LOOPBACK]]).send()).toMatchObject({ taken: true });
    expect(await sending([[PRIVATE, LOOPBACK]], { allowed: [] }).send()).toMatchObject({
      failure: 'address_refused',
    });
  });

  it('connects to no host that is such an address itself', async () => {
    const { send } = sending([[LOOPBACK]], { allowed: [] });
    for (const host of ['127.0.0.1', '[::1]', '[::ffff:127.0.0.1]', '0x7f000001'])
      expect(await send(host)).toMatchObject({ failure: 'address_refused' });
    expect(requests).toBe(0);
  });

  it('waits no longer than it may for an answer', async () => {
    answer = () => undefined;
    expect(await sending([[LOOPBACK]], { timeout: 100 }).send()).toMatchObject({ failure: 'timeout' });
  });

  it('reads no endless answer, and takes the status for it', async () => {
    let isOpen = true;
    answer = (response) => {
      response.on('close', () => (isOpen = false));
      response.writeHead(200);
      const go = (): void => {
        if (isOpen) response.write('x'.repeat(10_000), () => setImmediate(go));
      };
      go();
    };
    const { send } = sending([[LOOPBACK]]);
    expect(await send()).toEqual({ taken: true, status: 200 });
    while (isOpen) await new Promise((resolve) => setImmediate(resolve));
  });

  it('sends again at once what met a connection that had just been closed', async () => {
    const { send } = sending([[LOOPBACK]]);
    expect(await send()).toMatchObject({ taken: true });
    let closed = 0;
    answer = (response) => {
      if (closed === 0) response.socket?.resetAndDestroy();
      else response.writeHead(200).end();
      closed += 1;
    };
    expect(await send()).toMatchObject({ taken: true });
    expect(closed).toBe(2);
  });

  it('takes no protocol for an answer that it has not asked for', async () => {
    answer = (response) => {
      response.socket?.end('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n');
    };
    expect(await sending([[LOOPBACK]]).send()).toMatchObject({ taken: false });
  });

  it('says what kept it from connecting', async () => {
    const nowhere: Resolver = (_name, _options, callback) =>
      callback(Object.assign(new Error('not found'), { code: 'ENOTFOUND' }), []);
    const sender = new HttpWebhookSender(new AddressRules(['127.0.0.1']), 10_000, nowhere);
    senders.push(sender);
    const message = { key: Buffer.alloc(32), messageId: 'msg_1', body: '{}' };
    const { port } = server.address() as AddressInfo;
    const code = async (url: string): Promise<unknown> =>
      ((await sender.send({ ...message, url })) as { failure?: string }).failure;
    expect(await code('https://receiver.test/')).toBe('name_not_resolved');
    // A server that speaks no TLS.
    expect(await code(`https://127.0.0.1:${port}/`)).toBe('tls_failed');
    expect(await code('http://127.0.0.1:1/')).toBe('connection_failed');
  });
});
