import type { ServerResponse } from 'node:http';
import { TestAuthority } from './support/certificates.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';
import { QUICK, Receiver } from './support/webhook-receiver.js';

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
