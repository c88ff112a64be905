import type { ServerResponse } from 'node:http';
import { Client } from 'pg';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Mosquitto } from './support/mosquitto.js';
import { randomFrom } from './support/random.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';
import { QUICK, Receiver } from './support/webhook-receiver.js';

describe('the order of webhooks', () => {
  let database: TestDatabase;
  let receiver: Receiver;
  let service: Service;
  let paths = 0;

  beforeAll(async () => {
    [database, receiver] = await Promise.all([createDatabase(), Receiver.start()]);
    service = await Service.start({
      DATABASE_URL: database.url,
      ...QUICK,
      // What is not answered is under way, for longer than anything is waited for.
      WEBHOOKS_TIMEOUT: '1m',
    });
    await service.register('scale_1', 'weight_scale', 1);
    await service.register('scale_2', 'weight_scale', 2);
  });
  afterAll(async () => {
    await service.remove();
    await receiver.end();
    await database.drop();
  });

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

  /** A webhook of its own, and what can be done with its queue. */
  const stage = async () => {
    paths += 1;
    const path = `/hook-${paths}`;
    const order = { url: receiver.url(path), events: ['device.data.received'] };
    const id = (await service.post('/webhooks', order)).body.webhook_id as string;
    const held: ServerResponse[] = [];
    let sentinels = 0;
    const sent = (deviceId = 'scale_1'): unknown[] =>
      receiver
        .at(path)
        .filter(({ event }) => event.subject === deviceId)
        .map(({ event }) => event.data['value']);
    /** Of its deliveries with these values. */
    const set = async (change: string, ...values: number[]): Promise<void> => {
      await database.query(
        `UPDATE webhook_deliveries SET ${change} WHERE webhook_id = $1
           AND (body::jsonb -> 'data' ->> 'value')::float8 = ANY ($2::float8[])`,
        [id, values],
      );
    };
    const states = async (): Promise<unknown[]> => {
      const rows = await database.query<{ row: string }>(
        `SELECT concat_ws(' ', body::jsonb -> 'data' ->> 'value', state,
           CASE WHEN claimed_until > now() THEN 'held' END) AS row
         FROM webhook_deliveries WHERE webhook_id = $1 AND lane = 'scale_1' ORDER BY webhook_deliveries.id`,
        [id],
      );
      return rows.map(({ row }) => row);
    };
    const delivered = async (count: number, deviceId = 'scale_1'): Promise<unknown> =>
      until(`${count} of ${deviceId} to be delivered`, async () => {
        const rows = await database.query(
          `SELECT id FROM webhook_deliveries WHERE webhook_id = $1 AND lane = $2 AND state = 'delivered'`,
          [id, deviceId],
        );
        return rows.length === count;
      });
    return {
      id,
      held,
      sent,
      set,
      states,
      delivered,
      hold: () => receiver.answers.set(path, (response) => void held.push(response)),
      answer: () => receiver.answers.set(path, 204),
      /** What was due before has been found due, or not to be: another device's, which came later, has been delivered. */
      looked: async () => {
        sentinels += 1;
        await weigh('scale_2', 200 + sentinels);
        await delivered(sentinels, 'scale_2');
      },
      remove: () => service.delete(`/webhooks/${id}`),
    };
  };

  /** Queued, and another replica's. */
  const heldByAnother = async (id: string, ...values: number[]): Promise<void> => {
    await database.query(`
      CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        NEW.claimed_by := gen_random_uuid();
        NEW.claimed_until := now() + INTERVAL '1 hour';
        RETURN NEW;
      END $$`);
    await database.query(
      `CREATE TRIGGER hold BEFORE INSERT ON webhook_deliveries FOR EACH ROW EXECUTE FUNCTION hold()`,
    );
    await weigh('scale_1', ...values);
    await until('them to be queued', async () => {
      const rows = await database.query('SELECT id FROM webhook_deliveries WHERE webhook_id = $1', [id]);
      return rows.length === values.length;
    });
    await database.query('DROP TRIGGER hold ON webhook_deliveries');
    await database.query('DROP FUNCTION hold');
  };
  const FREE = 'claimed_by = NULL, claimed_until = NULL';

  it.each([
    ['the rest of it', [1]],
    ['its middle', [1, 3, 4]],
    ['its end', [1, 2, 3]],
    ['its front', [2, 3, 4]],
  ])('nothing is taken of a lane while another holds %s', async (_what, free) => {
    const { id, set, sent, states, looked, delivered, remove } = await stage();
    await heldByAnother(id, 1, 2, 3, 4);
    await set(FREE, ...free);
    await looked();
    expect(sent()).toEqual([]);
    expect(await states()).toEqual(
      [1, 2, 3, 4].map((value) => `${value} pending${free.includes(value) ? '' : ' held'}`),
    );
    // One whose claim has lapsed is in nobody's hands.
    await set(`claimed_until = now() - INTERVAL '1 second'`, 1, 2, 3, 4);
    await delivered(4);
    expect(sent()).toEqual([1, 2, 3, 4]);
    await remove();
  });

  it('nothing is taken from behind one that is not due', async () => {
    const { id, set, sent, looked, delivered, remove } = await stage();
    await heldByAnother(id, 1, 2, 3);
    await set(`next_attempt_at = now() + INTERVAL '1 hour'`, 2);
    await set(FREE, 1, 2, 3);
    await delivered(1);
    await looked();
    expect(sent()).toEqual([1]);
    await set('next_attempt_at = now()', 2);
    await delivered(3);
    expect(sent()).toEqual([1, 2, 3]);
    await remove();
  });

  it('what is replayed waits for what is under way, however much it is', async () => {
    const { id, hold, held, answer, sent, states, looked, delivered, remove } = await stage();
    // More than one claim takes of a lane.
    const before = Array.from({ length: 20 }, (_, index) => index + 1);
    await weigh('scale_1', ...before);
    await delivered(20);
    hold();
    await weigh('scale_1', 71, 72);
    await until('the first to be under way', () => held.length === 1);
    const { body } = await service.post(`/webhooks/${id}/replay`, {});
    expect(body.queued).toBe(20);
    answer();
    await looked();
    expect(sent().slice(20)).toEqual([71]);
    expect((await states()).slice(0, 20)).toEqual(before.map((value) => `${value} pending`));
    held[0]?.writeHead(204).end();
    await delivered(22);
    const after = sent().slice(20);
    expect(after.filter((value) => value !== 72)).toEqual([71, ...before]);
    expect(after.filter((value) => value === 72)).toHaveLength(1);
    await remove();
  });

  it('a claim that lapsed is not revived: the one in hand is sent once more, those behind it once', async () => {
    const { hold, held, answer, sent, set, delivered, remove } = await stage();
    hold();
    await weigh('scale_1', 1, 2, 3);
    await until('the first to be under way', () => held.length === 1);
    await set(`claimed_until = now() - INTERVAL '1 second'`, 1, 2, 3);
    await until('it to be sent once more', () => held.length === 2);
    // Whose claim lapsed is answered first, and sends nothing more.
    held[0]?.writeHead(204).end();
    answer();
    held[1]?.writeHead(204).end();
    await delivered(3);
    expect(sent()).toEqual([1, 1, 2, 3]);
    await remove();
  });

  it('claims and their renewals wait for one another', async () => {
    const { id, hold, held, answer, sent, set, delivered, remove } = await stage();
    hold();
    await weigh('scale_1', 1);
    await until('it to be under way', () => held.length === 1);
    const other = new Client({ connectionString: database.url });
    await other.connect();
    // As a claim of another replica does, "whcl".
    await other.query(`SELECT pg_advisory_lock(x'7768636c'::int, hashtext($1))`, [id]);
    await weigh('scale_1', 2);
    await until('both to wait', async () => {
      const { rows } = await other.query<{ modes: string }>(
        `SELECT string_agg(DISTINCT mode, ' ' ORDER BY mode) AS modes FROM pg_locks
         WHERE locktype = 'advisory' AND classid = x'7768636c'::int AND NOT granted`,
      );
      return rows[0]?.modes === 'ExclusiveLock ShareLock';
    });
    // What lapses while its renewal waits stays lapsed.
    await set(`claimed_until = now() - INTERVAL '1 minute'`, 1);
    await other.end();
    await until('it to be sent once more', () => held.length === 2);
    answer();
    for (const response of held) response.writeHead(204).end();
    await delivered(2);
    expect(sent()).toEqual([1, 1, 2]);
    await remove();
  });

  it('equal replays at one moment queue once, and none is told that there is no room', async () => {
    const { id, hold, held, delivered, sent, answer, remove } = await stage();
    await weigh('scale_1', 1, 2, 3);
    await delivered(3);
    hold();
    // What is to be queued again is locked until all four have begun.
    const other = new Client({ connectionString: database.url });
    await other.connect();
    await other.query('BEGIN');
    await other.query('SELECT id FROM webhook_deliveries WHERE webhook_id = $1 FOR UPDATE', [id]);
    const replays = [1, 2, 3, 4].map(() => service.post(`/webhooks/${id}/replay`, {}));
    await until('all four to wait', async () => {
      const { rows } = await other.query(
        `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
      );
      return rows.length === 4;
    });
    await other.query('ROLLBACK');
    await other.end();
    const answers = await Promise.all(replays);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect(answers.map(({ body }) => [body.queued, body.remaining]).sort()).toEqual([
      [0, 0],
      [0, 0],
      [0, 0],
      [3, 0],
    ]);
    await until('the first to be under way', () => held.length === 1);
    answer();
    held[0]?.writeHead(204).end();
    await delivered(3);
    expect(sent()).toEqual([1, 2, 3, 1, 2, 3]);
    await remove();
  });
});

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed)
  process.stderr.write('Order of webhooks of replicas not tested: Mosquitto is not installed\n');

describeWithMosquitto('the order of webhooks of two replicas', () => {
  const DEVICES = 6;
  const EACH = 150;

  it('is kept, one request of a device at a time, whatever fails and whatever is replayed', async () => {
    const [database, receiver, mosquitto] = await Promise.all([
      createDatabase(),
      Receiver.start(),
      Mosquitto.prepare(),
    ]);
    await mosquitto.start();
    const env = {
      DATABASE_URL: database.url,
      ...mosquitto.env,
      ...QUICK,
      WEBHOOKS_TIMEOUT: '30s',
      WEBHOOKS_MAX_ATTEMPTS: '1000',
    };
    const replicas = await Promise.all([Service.start(env), Service.start(env)]);
    const [first] = replicas;
    const devices = Array.from({ length: DEVICES }, (_, index) => `scale_${index}`);
    for (const id of devices) await first.register(id, 'weight_scale', 1);

    const random = randomFrom(20_261_126);
    const open = new Map<string, number>();
    const taken = new Map<string, number[]>(devices.map((id) => [id, []]));
    let overlaps = 0;
    let failures = 0;
    receiver.answers.set('/hook', (response, { event }) => {
      const id = event.subject ?? '';
      open.set(id, (open.get(id) ?? 0) + 1);
      overlaps += Number((open.get(id) ?? 0) > 1);
      // Another's can come in between.
      setImmediate(() => {
        open.set(id, (open.get(id) ?? 0) - 1);
        const fails = random() < 0.2;
        failures += Number(fails);
        if (!fails) taken.get(id)?.push(Number(event.data['value']));
        response.writeHead(fails ? 500 : 204).end();
      });
    });
    const order = { url: receiver.url('/hook'), events: ['device.data.received'] };
    const webhook = (await first.post('/webhooks', order)).body.webhook_id as string;
    const publisher = await first.mqtt();
    for (let value = 1; value <= EACH; value += 1)
      for (const id of devices)
        publisher.publish(
          `devices/${id}/data`,
          JSON.stringify({ metric_type: 'weight', value, unit: 'kg' }),
          { qos: 1 },
        );
    const settled = async (): Promise<unknown> =>
      until('the queue to be empty', async () => {
        const rows = await database.query<{ state: string }>('SELECT state FROM webhook_deliveries');
        return rows.length === EACH * DEVICES && rows.every(({ state }) => state === 'delivered');
      });
    await settled();
    const values = Array.from({ length: EACH }, (_, index) => index + 1);
    for (const id of devices) expect(taken.get(id)).toEqual(values);

    for (const list of taken.values()) list.length = 0;
    const { body } = await first.post(`/webhooks/${webhook}/replay`, {});
    expect(body.queued).toBe(EACH * DEVICES);
    await settled();
    for (const id of devices) expect(taken.get(id)).toEqual(values);
    expect(overlaps).toBe(0);
    expect(failures).toBeGreaterThan(EACH);

    await publisher.endAsync();
    await Promise.all(replicas.map((replica) => replica.remove()));
    await receiver.end();
    await mosquitto.remove();
    await database.drop();
  });
});
