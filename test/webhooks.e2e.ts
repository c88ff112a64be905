import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { AuditRow } from './support/audit-log.js';
import { TestAuthority, type Issued } from './support/certificates.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service, type Answer } from './support/service.js';
import { until } from './support/until.js';

/** A message as a receiver got it. */
interface Received {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  /** Of the CloudEvent. */
  readonly event: {
    readonly id: string;
    readonly type: string;
    readonly subject?: string;
    readonly data: Readonly<Record<string, unknown>>;
  };
}

/** Answers with this status, or by itself. */
type Answering = number | ((response: ServerResponse, received: Received) => void);

/** A receiver of the test's own, which answers 204 unless told otherwise. */
class Receiver {
  readonly received: Received[] = [];
  /** By path. */
  readonly answers = new Map<string, Answering>();
  private constructor(private readonly server: Server) {
    server.on('request', (request, response) => void this.take(request, response));
  }

  /** @param certificate for HTTPS. */
  static async start(certificate?: Issued): Promise<Receiver> {
    const server = certificate
      ? createTlsServer({ cert: readFileSync(certificate.cert), key: readFileSync(certificate.key) })
      : createServer();
    const receiver = new Receiver(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return receiver;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  url(path: string): string {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  at(path: string): readonly Received[] {
    return this.received.filter((each) => each.path === path);
  }

  async end(): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }

  private async take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await text(request);
    const path = request.url ?? '';
    const received = { path, headers: request.headers, body, event: JSON.parse(body) as Received['event'] };
    this.received.push(received);
    const answer = this.answers.get(path) ?? 204;
    if (typeof answer === 'function') answer(response, received);
    else response.writeHead(answer).end();
  }
}

/** As a receiver verifies it: Standard Webhooks 1.0.0. */
function isGenuine({ headers, body }: Received, secret: string): boolean {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`;
  return headers['webhook-signature'] === `v1,${createHmac('sha256', key).update(signed).digest('base64')}`;
}

const QUICK = {
  WEBHOOKS_ALLOW_HTTP: 'true',
  WEBHOOKS_ALLOW_NETWORKS: '127.0.0.1',
  WEBHOOKS_RETRY_BASE: '1ms',
  WEBHOOKS_TIMEOUT: '2s',
};

describe('webhooks', () => {
  let database: TestDatabase;
  let receiver: Receiver;
  let service: Service;
  let paths = 0;

  beforeAll(async () => {
    [database, receiver] = await Promise.all([createDatabase(), Receiver.start()]);
    service = await Service.start({
      DATABASE_URL: database.url,
      WEBHOOKS_MAX_ATTEMPTS: '4',
      WEBHOOKS_KEY: 'a-key-of-the-tests-with-more-than-32-bytes-in-it',
      ...QUICK,
    });
    await Promise.all(
      ['scale_1', 'scale_2', 'scale_3'].map((id, index) => service.register(id, 'weight_scale', index + 1)),
    );
  });
  afterAll(async () => {
    await service.remove();
    await receiver.end();
    await database.drop();
  });

  /** A path that no other test uses. */
  const newPath = (): string => {
    paths += 1;
    return `/hook-${paths}`;
  };
  const headersOf = async (claims: Record<string, unknown>): Promise<Record<string, string>> => ({
    authorization: `Bearer ${await service.token(claims)}`,
  });
  const create = async (order: object, headers: Record<string, string> = {}): Promise<Answer> =>
    service.post('/webhooks', order, headers);
  const made = async (order: object): Promise<{ id: string; secret: string }> => {
    const { status, body } = await create(order);
    expect(status).toBe(201);
    return { id: body.webhook_id, secret: body.secret };
  };
  const remove = async (id: string): Promise<unknown> => service.delete(`/webhooks/${id}`);
  const detailOf = async (id: string): Promise<Answer['body']> =>
    (await service.read(`/webhooks/${id}`)).body;
  const deliveriesOf = async (id: string, query = ''): Promise<Answer['body']> =>
    (await service.read(`/webhooks/${id}/deliveries${query}`)).body.data;
  const weigh = async (deviceId: string, ...values: number[]): Promise<void> => {
    const device = await service.mqtt();
    for (const value of values)
      await device.publishAsync(
        `devices/${deviceId}/data`,
        JSON.stringify({ metric_type: 'weight', value, unit: 'kg' }),
        { qos: 1 },
      );
    await device.endAsync();
  };
  const weights = (received: readonly Received[]): unknown[] =>
    received.map(({ event }) => event.data['value']);

  describe('what is sent', () => {
    it('is a CloudEvent whose signature its receiver can verify, with the secret that was shown once', async () => {
      const path = newPath();
      const { id, secret } = await made({
        url: receiver.url(path),
        events: ['device.data.received'],
        device_ids: ['scale_1'],
      });
      expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
      await weigh('scale_1', 71);
      const [got] = await until('the message', () => receiver.at(path).length > 0 && receiver.at(path));
      expect(got?.headers['content-type']).toMatch(/^application\/cloudevents\+json/);
      expect(got?.event).toMatchObject({
        specversion: '1.0',
        source: '/mqtt-service',
        type: 'device.data.received',
        subject: 'scale_1',
        data: { device_id: 'scale_1', patient_id: 1, metric_type: 'weight', value: 71 },
      });
      expect(got && isGenuine(got, secret)).toBe(true);
      expect(got && isGenuine({ ...got, body: got.body.replace('71', '72') }, secret)).toBe(false);
      const seconds = Number(got?.headers['webhook-timestamp']);
      expect(Math.abs(Date.now() / 1_000 - seconds)).toBeLessThan(60);

      const detail = await until('it to be recorded', async () => {
        const body = await detailOf(id);
        return body.deliveries.delivered === 1 && body.last_success_at !== null && body;
      });
      expect(detail.deliveries).toEqual({ pending: 0, delivered: 1, dead: 0 });
      expect(detail.last_failure).toBeNull();
      const [delivery] = await deliveriesOf(id);
      expect(delivery).toMatchObject({
        message_id: got?.headers['webhook-id'],
        event_id: got?.event.id,
        event_type: 'device.data.received',
        device_id: 'scale_1',
        state: 'delivered',
        attempts: 1,
        last_status: 204,
        last_failure: null,
      });
      await until('the audit log to say who made it', async () => {
        const { body } = await service.read('/audit?action=createWebhook&actor=tester');
        return body.data.some((entry: AuditRow) => entry.outcome === 'done' && entry.target === id);
      });
      // Neither secrets nor bodies are shown again, nor written down.
      const shown = [
        JSON.stringify(detail),
        (await service.read('/webhooks')).text,
        (await service.read(`/webhooks/${id}/deliveries`)).text,
        (await service.patch(`/webhooks/${id}`, { metric_types: null })).text,
        service.log,
      ];
      for (const each of shown) {
        expect(each).not.toContain(secret.slice(6, 30));
        expect(each).not.toContain('"value"');
      }
      const [stored] = await database.query<{ secret: Buffer }>(
        'SELECT secret FROM webhooks WHERE webhook_id = $1',
        [id],
      );
      expect(stored?.secret.includes(Buffer.from(secret.slice(6), 'base64'))).toBe(false);
      await remove(id);
    });

    it('is signed with the secret that was given, and with a new one from its change on', async () => {
      const path = newPath();
      const first = `whsec_${Buffer.alloc(24, 1).toString('base64')}`;
      const second = `whsec_${Buffer.alloc(64, 2).toString('base64')}`;
      const { id, secret } = await made({ url: receiver.url(path), secret: first, device_ids: ['scale_1'] });
      expect(secret).toBe(first);
      await weigh('scale_1', 60);
      await until('the first', () => receiver.at(path).some((each) => isGenuine(each, first)));
      expect((await service.patch(`/webhooks/${id}`, { secret: second })).status).toBe(200);
      await weigh('scale_1', 61);
      await until('the second', () => receiver.at(path).some((each) => isGenuine(each, second)));
      await remove(id);
    });

    it('is what the filter lets through', async () => {
      const [all, patients, metrics, registered] = [newPath(), newPath(), newPath(), newPath()];
      const ids = await Promise.all(
        [
          { url: receiver.url(all) },
          { url: receiver.url(patients), patient_ids: [2], events: ['device.data.received'] },
          { url: receiver.url(metrics), metric_types: ['blood_pressure'], events: ['device.data.received'] },
          { url: receiver.url(registered), events: ['device.registered'] },
        ].map(made),
      );
      await service.register('cuff_1', 'blood_pressure_monitor', 1);
      await weigh('scale_1', 62);
      await weigh('scale_2', 63);
      const device = await service.mqtt();
      const payload = { metric_type: 'systolic', value: 120, unit: 'mm[Hg]' };
      await device.publishAsync('devices/cuff_1/data', JSON.stringify(payload), { qos: 1 });
      await device.endAsync();
      await until('all of them', () => {
        const types = receiver.at(all).map(({ event }) => event.type);
        return types.filter((type) => type === 'device.data.received').length === 3;
      });
      await until('the queues to be empty', async () => {
        const backlogs = await Promise.all(ids.map(({ id }) => detailOf(id)));
        return backlogs.every(({ deliveries }) => deliveries.pending === 0);
      });
      expect(receiver.at(patients).map(({ event }) => event.subject)).toEqual(['scale_2']);
      expect(receiver.at(metrics).map(({ event }) => event.subject)).toEqual(['cuff_1']);
      expect(receiver.at(registered).map(({ event }) => event.subject)).toEqual(['cuff_1']);
      await Promise.all(ids.map(({ id }) => remove(id)));
    });

    it("is of the tenant's own devices, and the webhook is nobody else's to see", async () => {
      const [here, there] = [newPath(), newPath()];
      const north = await headersOf({ role: 'admin', tenant: 'north' });
      const { body: northern } = await create({ url: receiver.url(there) }, north);
      const { id } = await made({ url: receiver.url(here), events: ['device.data.received'] });
      await service.post(
        '/devices/register',
        { device_id: 'north_1', type: 'weight_scale', patient_id: 1 },
        north,
      );
      await weigh('north_1', 64);
      await weigh('scale_1', 65);
      await until('both', () => receiver.at(there).length > 0 && receiver.at(here).length > 0);
      await until('the rest of them', async () => {
        const { body } = await service.get(`/webhooks/${northern.webhook_id}`, north);
        return body.deliveries.pending === 0 && body.deliveries.delivered >= 2;
      });
      expect(new Set(receiver.at(there).map(({ event }) => event.subject))).toEqual(new Set(['north_1']));
      expect(receiver.at(here).map(({ event }) => event.subject)).toEqual(['scale_1']);

      const path = `/webhooks/${northern.webhook_id}`;
      const answers = await Promise.all([
        service.read(path),
        service.patch(path, { active: false }),
        service.delete(path),
        service.read(`${path}/deliveries`),
        service.post(`${path}/replay`, {}),
      ]);
      expect(answers.map(({ status, body }) => [status, body.code])).toEqual(
        answers.map(() => [404, 'webhook_not_found']),
      );
      const listed = await service.read('/webhooks');
      expect(listed.body.data.map(({ webhook_id }: { webhook_id: string }) => webhook_id)).toEqual([id]);
      await service.delete(path, north);
      await remove(id);
    });

    it('is nothing while the webhook is switched off, and what came in meanwhile is not sent', async () => {
      const path = newPath();
      const { id } = await made({ url: receiver.url(path), events: ['device.data.received'], active: false });
      expect((await service.get('/metrics')).text).toMatch(/^mqtt_service_webhooks_active 0$/m);
      await weigh('scale_1', 66);
      await until('it to be stored', async () => {
        const { body } = await service.read('/devices/scale_1/latest');
        return body.data[0].value === 66;
      });
      await service.patch(`/webhooks/${id}`, { active: true });
      await weigh('scale_1', 67);
      await until('what came later', () => receiver.at(path).length > 0);
      expect(weights(receiver.at(path))).toEqual([67]);
      await remove(id);
    });
  });

  describe('a receiver that fails', () => {
    it('gets it again, under the same id, in the order of the device, and holds up no other device', async () => {
      const path = newPath();
      let failures = 0;
      receiver.answers.set(path, (response, { event }) => {
        const fails = event.subject === 'scale_1' && failures < 2;
        failures += Number(fails);
        // Once by an answer, once by none.
        if (fails && failures === 2) return;
        response.writeHead(fails ? 500 : 200).end();
      });
      const { id } = await made({ url: receiver.url(path), events: ['device.data.received'] });
      await weigh('scale_1', 70, 71, 72);
      await until('the first to hang', () => failures === 2);
      await weigh('scale_2', 80);
      await until('all of them', () => receiver.at(path).length === 6);
      const of = (device: string): Received[] =>
        receiver.at(path).filter(({ event }) => event.subject === device);
      expect(weights(of('scale_1'))).toEqual([70, 70, 70, 71, 72]);
      expect(
        new Set(
          of('scale_1')
            .slice(0, 3)
            .map(({ headers }) => headers['webhook-id']),
        ).size,
      ).toBe(1);
      // The other device's did not wait for the one that hung.
      const order = receiver.at(path).map(({ event }) => event.data['value']);
      expect(order.indexOf(80)).toBeLessThan(order.indexOf(71));
      const detail = await until('it to be recorded', async () => {
        const body = await detailOf(id);
        return body.deliveries.delivered === 4 && body.last_failure?.code === 'timeout' && body;
      });
      expect(detail.last_failure).toMatchObject({ status: null });
      const [first] = (await deliveriesOf(id)).slice(-1);
      expect(first).toMatchObject({ attempts: 3, state: 'delivered', last_failure: null });
      await remove(id);
    });

    it('is given up after as many attempts as there may be, for all to see, and gets it when it is replayed', async () => {
      const path = newPath();
      receiver.answers.set(path, 503);
      const { id } = await made({ url: receiver.url(path), events: ['device.data.received'] });
      await weigh('scale_1', 73, 74);
      const detail = await until('both to be dead', async () => {
        const body = await detailOf(id);
        return body.deliveries.dead === 2 && body.last_failure !== null && body;
      });
      expect(detail.last_failure).toMatchObject({ status: 503, code: 'http_error' });
      expect(weights(receiver.at(path))).toEqual([73, 73, 73, 73, 74, 74, 74, 74]);
      const dead = await deliveriesOf(id, '?state=dead');
      expect(dead).toHaveLength(2);
      expect(dead[0]).toMatchObject({ state: 'dead', attempts: 4, last_status: 503, next_attempt_at: null });
      expect(await deliveriesOf(id, '?state=pending')).toEqual([]);
      const { text: metrics } = await service.get('/metrics');
      expect(Number(/^mqtt_service_webhook_deliveries_dead_total (\d+)/m.exec(metrics)?.[1])).toBeGreaterThan(
        1,
      );
      expect(Number(/^mqtt_service_webhook_attempts_failed_total (\d+)/m.exec(metrics)?.[1])).toBeGreaterThan(
        7,
      );

      receiver.answers.set(path, 200);
      const { body: replayed } = await service.post(`/webhooks/${id}/replay`, { states: ['dead'] });
      expect(replayed).toEqual({ queued: 2, remaining: 0, next_cursor: null });
      await until('them to be delivered', async () => (await detailOf(id)).deliveries.delivered === 2);
      expect(weights(receiver.at(path)).slice(8)).toEqual([73, 74]);
      await remove(id);
    });

    it('is asked for nothing more when it answers 410, until it is switched on again', async () => {
      const path = newPath();
      receiver.answers.set(path, 410);
      const { id } = await made({ url: receiver.url(path), events: ['device.data.received'] });
      await weigh('scale_1', 75);
      await until('it to be switched off', async () => (await detailOf(id)).active === false);
      expect(await detailOf(id)).toMatchObject({
        disabled_reason: 'gone',
        deliveries: { dead: 1 },
      });
      await weigh('scale_1', 76);
      await until('it to be stored', async () => {
        const { body } = await service.read('/devices/scale_1/latest');
        return body.data[0].value === 76;
      });
      receiver.answers.set(path, 200);
      const { body } = await service.patch(`/webhooks/${id}`, { active: true });
      expect(body).toMatchObject({ active: true, disabled_reason: null });
      await weigh('scale_1', 77);
      await until('what came later', () => weights(receiver.at(path)).includes(77));
      expect(weights(receiver.at(path))).toEqual([75, 77]);
      await remove(id);
    });

    it('does not lead elsewhere: a redirect is a failure', async () => {
      const [path, elsewhere] = [newPath(), newPath()];
      receiver.answers.set(
        path,
        (response) => void response.writeHead(307, { location: receiver.url(elsewhere) }).end(),
      );
      const { id } = await made({ url: receiver.url(path), events: ['device.data.received'] });
      await weigh('scale_1', 78);
      await until('it to be given up', async () => (await detailOf(id)).deliveries.dead === 1);
      expect((await deliveriesOf(id))[0]).toMatchObject({ last_status: 307, last_failure: 'redirected' });
      expect(receiver.at(elsewhere)).toEqual([]);
      await remove(id);
    });
  });

  describe('where it may be sent', () => {
    const refused = async (url: string): Promise<unknown> => {
      const { status, body } = await create({ url });
      return [status, body.code, body.errors?.[0]?.field];
    };

    it.each([
      'http://10.0.0.1/',
      'https://169.254.169.254/latest/meta-data',
      'https://[::1]/',
      'https://[::ffff:127.0.0.1]/',
      'https://2130706434/',
      'https://0x7f.2/',
      'https://user:password@ward.example/',
      'https://ward.example:22/',
      'ftp://ward.example/',
      'nowhere',
    ])('is not %s', async (url) => {
      expect(await refused(url)).toEqual([400, 'validation_failed', 'url']);
    });

    it('is not where a name leads, if that is private: nothing is connected to', async () => {
      const own = await createDatabase();
      const guarded = await Service.start({
        DATABASE_URL: own.url,
        ...QUICK,
        WEBHOOKS_ALLOW_NETWORKS: '',
        WEBHOOKS_MAX_ATTEMPTS: '2',
      });
      const url = `http://localhost:${receiver.port}/private`;
      const { status, body } = await guarded.post('/webhooks', { url });
      expect(status).toBe(201);
      await guarded.register('scale_1', 'weight_scale');
      await until('it to be given up', async () => {
        const { body: found } = await guarded.read(`/webhooks/${body.webhook_id}/deliveries?state=dead`);
        return found.data[0]?.last_failure === 'address_refused';
      });
      expect(receiver.at('/private')).toEqual([]);
      await guarded.remove();
      await own.drop();
    });
  });

  describe('a replay', () => {
    it('begins behind the message its receiver has last, and at a time', async () => {
      const path = newPath();
      const { id } = await made({ url: receiver.url(path), events: ['device.data.received'] });
      await weigh('scale_1', 81, 82, 83, 84);
      await until('all four', async () => (await detailOf(id)).deliveries.delivered === 4);
      const last = receiver.at(path)[1]?.headers['webhook-id'];
      const { body: first } = await service.post(`/webhooks/${id}/replay`, { cursor: last });
      expect(first).toEqual({ queued: 2, remaining: 0, next_cursor: null });
      await until('two more', () => receiver.at(path).length === 6);
      expect(weights(receiver.at(path)).slice(4)).toEqual([83, 84]);
      await until('the end of it', async () => (await detailOf(id)).deliveries.delivered === 4);

      const [newest] = await deliveriesOf(id, '?limit=1');
      const { body: second } = await service.post(`/webhooks/${id}/replay`, { from: newest.created_at });
      const kept = (await deliveriesOf(id)) as { created_at: string }[];
      expect(second.queued).toBe(kept.filter(({ created_at }) => created_at >= newest.created_at).length);
      const future = { from: '2999-01-01T00:00:00Z' };
      expect((await service.post(`/webhooks/${id}/replay`, future)).body.queued).toBe(0);
      const unknown = { cursor: `msg_${'0'.repeat(32)}` };
      expect((await service.post(`/webhooks/${id}/replay`, unknown)).body.code).toBe('validation_failed');
      await remove(id);
    });
  });

  it('are listed page by page, and their deliveries too', async () => {
    const ids: string[] = [];
    for (let number = 0; number < 3; number += 1)
      ids.push((await made({ url: receiver.url(newPath()), events: ['device.data.received'] })).id);
    await weigh('scale_1', 91, 92, 93);
    const [first = ''] = ids;
    await until('all of them', async () => (await detailOf(first)).deliveries.delivered === 3);
    for (const [path, field] of [
      ['/webhooks', 'webhook_id'],
      [`/webhooks/${first}/deliveries`, 'message_id'],
    ] as const) {
      const whole = (await service.read(path)).body.data as Record<string, string>[];
      const pages: Record<string, string>[] = [];
      for (let cursor = ''; ;) {
        const { body } = await service.read(`${path}?limit=2${cursor}`);
        pages.push(...body.data);
        if (body.next_cursor === null) break;
        cursor = `&cursor=${body.next_cursor}`;
      }
      expect(pages.map((each) => each[field])).toEqual(whole.map((each) => each[field]));
      expect(pages).toHaveLength(3);
    }
    await Promise.all(ids.map(remove));
  });
});

describe('webhooks within their bounds', () => {
  let database: TestDatabase;
  let receiver: Receiver;
  let service: Service;

  beforeAll(async () => {
    [database, receiver] = await Promise.all([createDatabase(), Receiver.start()]);
    service = await Service.start({
      DATABASE_URL: database.url,
      ...QUICK,
      // What fails waits, and what is not answered is under way.
      WEBHOOKS_RETRY_BASE: '10m',
      WEBHOOKS_TIMEOUT: '30s',
      WEBHOOKS_MAX_PENDING: '3',
      WEBHOOKS_MAX_KEPT: '4',
    });
    await service.register('scale_1', 'weight_scale', 1);
  });
  afterAll(async () => {
    await service.remove();
    await receiver.end();
    await database.drop();
  });

  const made = async (path: string): Promise<string> => {
    const order = { url: receiver.url(path), events: ['device.data.received'] };
    return (await service.post('/webhooks', order)).body.webhook_id;
  };
  const deliveries = async (id: string): Promise<Record<string, unknown>[]> =>
    (await service.read(`/webhooks/${id}/deliveries`)).body.data;
  const states = async (id: string): Promise<unknown[]> =>
    (await deliveries(id)).map(({ state, last_failure }) => `${String(state)} ${String(last_failure)}`);
  const weigh = async (...values: number[]): Promise<void> => {
    const device = await service.mqtt();
    for (const value of values)
      await device.publishAsync(
        'devices/scale_1/data',
        JSON.stringify({ metric_type: 'weight', value, unit: 'kg' }),
        { qos: 1 },
      );
    await device.endAsync();
  };

  it('wait up to so many for a receiver that is away: past it, the oldest are given up, and the ingest goes on', async () => {
    receiver.answers.set('/away', 500);
    const id = await made('/away');
    await weigh(1.5, 2.5, 3.5, 4.5, 5.5, 6.5);
    await until('the queue to be in its bounds', async () => {
      const all = await states(id);
      return all.length === 6 && all.filter((each) => each === 'dead backlog_full').length === 3;
    });
    const found = await states(id);
    expect(found.slice(0, 3).every((each) => String(each).startsWith('pending'))).toBe(true);
    expect(found.slice(3)).toEqual(Array(3).fill('dead backlog_full'));
    const [stored] = await database.query<{ count: string }>('SELECT count(*) FROM device_readings');
    expect(Number(stored?.count)).toBe(6);
    await service.delete(`/webhooks/${id}`);
    expect(await database.query('SELECT id FROM webhook_deliveries')).toEqual([]);
  });

  it('are replayed as far as there is room, and kept for no longer and no more than they may be', async () => {
    const id = await made('/replayed');
    for (const [index, value] of [10.5, 11.5, 12.5, 13.5].entries()) {
      await weigh(value);
      await until('it to be delivered', async () => {
        const all = await states(id);
        return all.length === index + 1 && all.every((each) => each === 'delivered null');
      });
    }
    const held: ServerResponse[] = [];
    receiver.answers.set('/replayed', (response) => void held.push(response));
    const { body: first } = await service.post(`/webhooks/${id}/replay`, {});
    expect(first).toMatchObject({ queued: 3, remaining: 1 });
    expect((await deliveries(id))[1]?.['message_id']).toBe(first.next_cursor);
    const rest = { cursor: first.next_cursor as string };
    const full = await service.post(`/webhooks/${id}/replay`, rest);
    expect([full.status, full.body.code]).toEqual([409, 'backlog_full']);
    await until('the first to be sent again', () => held.length === 1);
    receiver.answers.set('/replayed', 200);
    held[0]?.writeHead(200).end();
    await until('the three', async () => (await states(id)).every((each) => each === 'delivered null'));
    expect((await service.post(`/webhooks/${id}/replay`, rest)).body).toEqual({
      queued: 1,
      remaining: 0,
      next_cursor: null,
    });
    const values = (): unknown[] => receiver.at('/replayed').map(({ event }) => event.data['value']);
    await until('the last', () => values().length === 8);
    expect(values().slice(4)).toEqual([10.5, 11.5, 12.5, 13.5]);

    await weigh(14.5);
    await until('the newest', () => values().at(-1) === 14.5);
    await until('the oldest to make room', async () => {
      const all = await deliveries(id);
      return all.length === 4 && (await states(id)).every((each) => each === 'delivered null');
    });
    await database.query(`UPDATE webhook_deliveries SET finished_at = finished_at - INTERVAL '73 hours'`);
    await until('what is old to be forgotten', async () => (await deliveries(id)).length === 0);

    receiver.answers.set('/replayed', (response) => void held.push(response));
    await weigh(15.5, 16.5);
    await until('both to be queued', async () => (await deliveries(id)).length === 2);
    await service.patch(`/webhooks/${id}`, { active: false });
    await until('the first to be under way', () => held.length === 2);
    held[1]?.writeHead(200).end();
    await until('it to be delivered', async () => (await states(id)).includes('delivered null'));
    await database.query(
      `UPDATE webhook_deliveries SET queued_at = queued_at - INTERVAL '25 hours' WHERE state = 'pending'`,
    );
    await until('what has waited for too long to be given up', async () =>
      (await states(id)).includes('dead expired'),
    );
    await service.delete(`/webhooks/${id}`);
  });
});

const describeWithOpenssl = TestAuthority.available ? describe : describe.skip;
if (!TestAuthority.available)
  process.stderr.write('Webhooks by HTTPS not tested: openssl is not installed\n');

describeWithOpenssl('webhooks by HTTPS', () => {
  it('go to receivers whose certificate is theirs and trusted, and to no other', async () => {
    const [trusted, other] = [TestAuthority.create('trusted'), TestAuthority.create('other')];
    const database = await createDatabase();
    const receivers = await Promise.all([
      Receiver.start(trusted.issue('good', 'DNS:localhost')),
      Receiver.start(trusted.issue('misnamed', 'DNS:elsewhere.example')),
      Receiver.start(other.issue('untrusted', 'DNS:localhost')),
    ]);
    const service = await Service.start({
      DATABASE_URL: database.url,
      NODE_EXTRA_CA_CERTS: trusted.cert,
      WEBHOOKS_ALLOW_NETWORKS: '127.0.0.1, ::1',
      WEBHOOKS_RETRY_BASE: '1ms',
      WEBHOOKS_MAX_ATTEMPTS: '2',
    });
    const ids: string[] = [];
    for (const { port } of receivers)
      ids.push(
        (await service.post('/webhooks', { url: `https://localhost:${port}/` })).body.webhook_id as string,
      );
    await service.register('scale_1', 'weight_scale');
    const failures = await Promise.all(
      ids.map((id) =>
        until('its end', async () => {
          const { body } = await service.read(`/webhooks/${id}/deliveries`);
          return body.data[0]?.finished_at && [body.data[0].state, body.data[0].last_failure];
        }),
      ),
    );
    expect(failures).toEqual([
      ['delivered', null],
      ['dead', 'tls_failed'],
      ['dead', 'tls_failed'],
    ]);
    expect(receivers.map(({ received }) => received.length)).toEqual([1, 0, 0]);
    await service.remove();
    await Promise.all(receivers.map((each) => each.end()));
    await database.drop();
    trusted.remove();
    other.remove();
  });
});

describe('webhooks of a service that is killed', () => {
  let database: TestDatabase;
  let receiver: Receiver;

  beforeAll(async () => {
    [database, receiver] = await Promise.all([createDatabase(), Receiver.start()]);
  });
  afterAll(async () => {
    await receiver.end();
    await database.drop();
  });

  it('are sent what was committed, once it runs again', async () => {
    const service = await Service.start({ DATABASE_URL: database.url, ...QUICK, WEBHOOKS_TIMEOUT: '1s' });
    await service.register('scale_1', 'weight_scale', 1);
    const taken: string[] = [];
    let isDown = true;
    receiver.answers.set('/hook', (response, { event }) => {
      // Its first requests are never answered: it dies with them.
      if (isDown) return;
      taken.push(event.id);
      response.writeHead(200).end();
    });
    await service.post('/webhooks', { url: receiver.url('/hook'), events: ['device.data.received'] });
    const device = await service.mqtt();
    for (let value = 50; value < 60; value += 1)
      await device.publishAsync(
        'devices/scale_1/data',
        JSON.stringify({ metric_type: 'weight', value, unit: 'kg' }),
        { qos: 1 },
      );
    await until('them to be committed, and a request under way', async () => {
      const rows = await database.query('SELECT id FROM webhook_deliveries');
      return rows.length === 10 && receiver.received.length > 0;
    });
    await service.end('SIGKILL');
    await device.endAsync(true);
    const queued = await database.query<{ event_id: string; state: string }>(
      'SELECT event_id, state FROM webhook_deliveries ORDER BY id',
    );
    expect(queued).toHaveLength(10);
    expect(new Set(queued.map(({ state }) => state))).toEqual(new Set(['pending']));
    isDown = false;
    await service.launch();
    await until('all of them', () => taken.length >= 10);
    expect(taken).toEqual(queued.map(({ event_id }) => event_id));
    await service.remove();
  });
});

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed)
  process.stderr.write('Webhooks of replicas not tested: Mosquitto is not installed\n');

describeWithMosquitto('webhooks of two replicas', () => {
  const EVENTS = 300;
  const REQUESTS_OF_ONE = 8;
  let database: TestDatabase;
  let receiver: Receiver;
  let mosquitto: Mosquitto;
  let replicas: readonly Service[];

  beforeAll(async () => {
    [database, receiver, mosquitto] = await Promise.all([
      createDatabase(),
      Receiver.start(),
      Mosquitto.prepare(),
    ]);
    await mosquitto.start();
    // What is under way waits for the other replica.
    const env = { DATABASE_URL: database.url, ...mosquitto.env, ...QUICK, WEBHOOKS_TIMEOUT: '30s' };
    replicas = await Promise.all([Service.start(env), Service.start(env)]);
  });
  afterAll(async () => {
    await Promise.all(replicas.map((replica) => replica.remove()));
    await receiver.end();
    await mosquitto.remove();
    await database.drop();
  });

  it('are sent each event once, in the order of each device, whichever of them sends it', async () => {
    const [first, second] = replicas as [Service, Service];
    const devices = Array.from({ length: 60 }, (_, index) => `scale_${index}`);
    for (const id of devices) await first.register(id, 'weight_scale', 1);
    // Answers wait until there are more requests at once than one replica makes: both are at it.
    let waiting: ServerResponse[] = [];
    let bothAtIt = false;
    receiver.answers.set('/hook', (response) => {
      waiting.push(response);
      bothAtIt ||= waiting.length > REQUESTS_OF_ONE;
      if (!bothAtIt) return;
      for (const each of waiting) each.writeHead(200).end();
      waiting = [];
    });
    // Made at one of them; the other knows it within moments.
    await second.post('/webhooks', { url: receiver.url('/hook'), events: ['device.data.received'] });
    await until('both to know it', async () => {
      const texts = await Promise.all(replicas.map(async (replica) => (await replica.get('/metrics')).text));
      return texts.every((each) => each.includes('mqtt_service_webhooks_active 1'));
    });
    const publisher = await second.mqtt();
    const published = new Map<string, number[]>(devices.map((id) => [id, []]));
    for (let number = 1; number <= EVENTS; number += 1) {
      const id = devices[number % devices.length] ?? '';
      published.get(id)?.push(number);
      const payload = { metric_type: 'weight', value: number, unit: 'kg' };
      publisher.publish(`devices/${id}/data`, JSON.stringify(payload), { qos: 1 });
    }
    await until('the queue to be empty', async () => {
      const rows = await database.query<{ state: string }>('SELECT state FROM webhook_deliveries');
      return rows.length === EVENTS && rows.every(({ state }) => state === 'delivered');
    });
    expect(receiver.received).toHaveLength(EVENTS);
    for (const [id, values] of published) {
      const got = receiver.received.filter(({ event }) => event.subject === id);
      expect(got.map(({ event }) => event.data['value'])).toEqual(values);
    }
    const counts = await Promise.all(
      replicas.map(async (replica) => {
        const { text: metrics } = await replica.get('/metrics');
        return Number(/^mqtt_service_webhook_deliveries_total (\d+)/m.exec(metrics)?.[1]);
      }),
    );
    expect(Math.min(...counts)).toBeGreaterThan(0);
    expect(counts.reduce((sum, count) => sum + count)).toBe(EVENTS);
    await publisher.endAsync();
  });
});
