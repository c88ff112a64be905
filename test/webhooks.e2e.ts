import type { AuditRow } from './support/audit-log.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Service, type Answer } from './support/service.js';
import { until } from './support/until.js';
import { isGenuine, QUICK, Receiver, type Received } from './support/webhook-receiver.js';

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

    it('is not such an address by a change, either', async () => {
      const { id } = await made({ url: receiver.url(newPath()), active: false });
      const { url } = await detailOf(id);
      for (const each of ['http://10.0.0.1/', 'https://[::ffff:127.0.0.1]/', 'https://2130706434/']) {
        const { status, body } = await service.patch(`/webhooks/${id}`, { url: each });
        expect([status, body.code, body.errors?.[0]?.field]).toEqual([400, 'validation_failed', 'url']);
      }
      expect((await detailOf(id)).url).toBe(url);
      await remove(id);
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
