import type { MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service, type Answer } from './support/service.js';
import { until } from './support/until.js';

interface Rejected {
  readonly id: number;
  readonly topic: string;
  readonly payload_base64: string;
  readonly reason: string;
  readonly detail: string;
  readonly device_id: string | null;
  readonly received_at: string;
}

interface Put {
  readonly deviceId: string;
  readonly topic: string;
  readonly reason: string;
  readonly receivedAt: string;
}

const HOUR = 3_600_000;
const ago = (ms: number): string => new Date(Date.now() - ms).toISOString();
const pressure = (systolic: number, timestamp?: string): string =>
  JSON.stringify({ metric_type: 'blood_pressure', systolic, diastolic: 60, ...(timestamp && { timestamp }) });

describe('the quarantine', () => {
  let database: TestDatabase;
  let service: Service;
  let device: MqttClient;
  let replica: Service | undefined;
  let messages = 0;

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({ DATABASE_URL: database.url });
    device = await service.mqtt();
  });
  afterAll(async () => {
    await device.endAsync();
    await replica?.remove();
    await service.remove();
    await database.drop();
  });

  /** Puts a message into quarantine by hand. @returns its id. */
  const put = async (payload: string | Buffer, about: Partial<Put> = {}): Promise<number> => {
    const { deviceId = 'device_1', reason = 'unknown_device', receivedAt = ago(0) } = about;
    const { topic = `devices/${deviceId}/data` } = about;
    messages += 1;
    const [row] = await database.query<{ id: string }>(
      `INSERT INTO rejected_messages (message_id, topic, payload, reason, detail, device_id, received_at)
       VALUES ($1, $2, $3, $4, 'as put there', $5, $6) RETURNING id`,
      [`put-${messages}`, topic, Buffer.from(payload), reason, deviceId, receivedAt],
    );
    return Number(row?.id);
  };
  const publish = (topic: string, payload: string): Promise<unknown> =>
    device.publishAsync(topic, payload, { qos: 1 });
  const list = (query = ''): Promise<Answer> => service.read(`/rejected-messages${query}`);
  const retry = (id: number | string, on = service): Promise<Answer> =>
    on.post(`/rejected-messages/${id}/retry`, '');
  /** What publishing leads to, once it is there. */
  const rejectedOf = async (deviceId: string): Promise<Rejected> => {
    const found = await until('the rejected message', async () => {
      const { body } = await list(`?device_id=${deviceId}`);
      return (body.data as Rejected[])[0];
    });
    return found;
  };
  const kept = async (id: number): Promise<{ reason: string; detail: string } | undefined> => {
    const rows = await database.query<{ reason: string; detail: string }>(
      'SELECT reason, detail FROM rejected_messages WHERE id = $1',
      [id],
    );
    return rows[0];
  };
  const allPages = async (query: string): Promise<{ rows: Rejected[]; answers: Answer[] }> => {
    const rows: Rejected[] = [];
    const answers: Answer[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const answer: Answer = await list(`?${query}${cursor && `&cursor=${cursor}`}`);
      answers.push(answer);
      rows.push(...(answer.body.data as Rejected[]));
      cursor = answer.body.next_cursor as string | null;
    }
    return { rows, answers };
  };

  describe('who may look and retry', () => {
    it.each([
      ['viewer', { role: 'viewer' }],
      ['clinician', { role: 'clinician' }],
      ['patient', { role: 'patient', patient_id: 1 }],
      ['every scope but admin', { scope: 'devices:write readings:read commands:send stream' }],
      ['an admin confined to one patient', { role: 'admin', patient_id: 1 }],
    ])('not: %s', async (_what, claims) => {
      const authorization = `Bearer ${await service.token(claims)}`;
      for (const answer of [
        await service.get('/rejected-messages', { authorization }),
        await service.post('/rejected-messages/1/retry', '', { authorization }),
      ]) {
        expect({ status: answer.status, code: answer.body.code }).toEqual({
          status: 403,
          code: 'insufficient_scope',
        });
      }
    });

    it('not: anybody without a token', async () => {
      expect((await service.get('/rejected-messages')).status).toBe(401);
      expect((await service.post('/rejected-messages/1/retry', '', { authorization: '' })).status).toBe(401);
    });
  });

  describe('GET /rejected-messages', () => {
    it('shows a message whole, with its reason', async () => {
      const sent = pressure(120);
      await publish('devices/shown_1/data', sent);
      const shown = await rejectedOf('shown_1');
      expect(shown).toEqual({
        id: expect.any(Number),
        topic: 'devices/shown_1/data',
        payload_base64: Buffer.from(sent).toString('base64'),
        reason: 'unknown_device',
        detail: expect.stringContaining('registered'),
        device_id: 'shown_1',
        received_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(\d{3})?Z$/),
      });
      await publish('devices/not valid!/data', sent);
      const stray = await until('the other', async () =>
        ((await list()).body.data as Rejected[]).find(({ topic }) => topic === 'devices/not valid!/data'),
      );
      expect(stray.device_id).toBeNull();
    });

    it('filters by device, reason and time of receipt', async () => {
      for (const [deviceId, reason, minute] of [
        ['filter_1', 'invalid_json', 0],
        ['filter_1', 'invalid_unit', 1],
        ['filter_2', 'invalid_unit', 2],
        ['filter_2', 'invalid_json', 3],
      ] as const) {
        await put(`${deviceId} ${minute}`, { deviceId, reason, receivedAt: `2001-01-01T00:0${minute}:00Z` });
      }
      const year = 'from=2001-01-01T00:00:00Z&to=2001-01-02T00:00:00Z';
      const minutes = async (query: string): Promise<number[]> =>
        ((await list(`?${query}`)).body.data as Rejected[]).map(({ received_at }) =>
          new Date(received_at).getUTCMinutes(),
        );
      expect(await minutes(year)).toEqual([3, 2, 1, 0]);
      expect(await minutes('device_id=filter_1')).toEqual([1, 0]);
      expect(await minutes('device_id=filter_1&reason=invalid_json')).toEqual([0]);
      expect(await minutes(`reason=invalid_unit&${year}`)).toEqual([2, 1]);
      expect(await minutes('from=2001-01-01T02:01:00%2B02:00&to=2001-01-01T00:03:00Z')).toEqual([2, 1]);
      expect(await minutes('device_id=filter_2&to=2001-01-01T00:03:00Z')).toEqual([2]);
      expect(await minutes('device_id=filter_2&reason=invalid_json&to=2001-01-01T00:03:00Z')).toEqual([]);
      expect(await minutes('device_id=nobody')).toEqual([]);
    });

    it('misses none and repeats none of one instant, nor of instants a microsecond apart', async () => {
      const ids: number[] = [];
      for (let index = 0; index < 25; index += 1) {
        const micros = index % 5 === 0 ? '000001' : '000000';
        ids.push(
          await put(String(index), { deviceId: 'paged', receivedAt: `2002-01-01T00:00:00.${micros}Z` }),
        );
      }
      const { rows, answers } = await allPages('device_id=paged&limit=4');
      expect(answers).toHaveLength(7);
      const expected = [...ids.filter((_, index) => index % 5 === 0).reverse()];
      expected.push(...ids.filter((_, index) => index % 5 !== 0).reverse());
      expect(rows.map(({ id }) => id)).toEqual(expected);
      const exact = await allPages('device_id=paged&limit=25');
      expect(exact.answers).toHaveLength(1);
    });

    it('goes on where it was when the message a page ended with has left the quarantine', async () => {
      const ids = [];
      for (let index = 0; index < 4; index += 1)
        ids.push(await put(String(index), { deviceId: 'leaving', receivedAt: '2003-01-01T00:00:00Z' }));
      const first = await list('?device_id=leaving&limit=2');
      await database.query('DELETE FROM rejected_messages WHERE id = $1', [ids[2]]);
      const second = await list(`?device_id=leaving&limit=2&cursor=${first.body.next_cursor}`);
      expect((second.body.data as Rejected[]).map(({ id }) => id)).toEqual([ids[1], ids[0]]);
      expect(second.body.next_cursor).toBeNull();
    });

    it('ends a page of large payloads early, and none is lost', async () => {
      const payload = Buffer.alloc(262_144, 'x');
      const ids: number[] = [];
      for (let index = 0; index < 40; index += 1) ids.push(await put(payload, { deviceId: 'large' }));
      const { rows, answers } = await allPages('device_id=large&limit=1000');
      expect(rows.map(({ id }) => id)).toEqual(ids.reverse());
      expect(answers.length).toBeGreaterThan(1);
      for (const { text } of answers) expect(text.length).toBeLessThan(6 * 1024 * 1024);
      const largest = await put(Buffer.alloc(5_000_000, 'y'), { deviceId: 'largest' });
      await put('small', { deviceId: 'largest', receivedAt: ago(HOUR) });
      const beyond = await allPages('device_id=largest');
      expect(beyond.answers.map(({ body }) => body.data.length)).toEqual([1, 1]);
      expect(beyond.rows[0]?.id).toBe(largest);
    });

    it('finds each combination of filters by an index of its own', async () => {
      // What is looked for stands at the far end of everything else, and so does many_1's invalid_json of all that
      // is many_1's and of all that is invalid_json.
      await database.query(
        `INSERT INTO rejected_messages (message_id, topic, payload, reason, detail, device_id, received_at)
         SELECT 'many-' || n, 'devices/x/data', 'x',
                CASE WHEN n <= 10 THEN 'timestamp_in_future' WHEN n <= 30 OR n % 2 = 0 THEN 'invalid_json'
                     ELSE 'invalid_unit' END, '',
                CASE WHEN n <= 10 THEN 'few' WHEN n % 2 = 1 THEN 'many_1' ELSE 'one_' || n END,
                TIMESTAMPTZ '2004-01-01' + n * INTERVAL '1 minute'
         FROM generate_series(1, 20000) AS n`,
      );
      await database.query('ANALYZE rejected_messages');
      const statistics = async (): Promise<Record<'index' | 'rows' | 'whole', number>> => {
        const [row] = await database.query<Record<'index' | 'rows' | 'whole', string>>(
          `SELECT idx_scan AS index, idx_tup_fetch AS rows, seq_scan AS whole FROM pg_stat_user_tables
           WHERE relname = 'rejected_messages'`,
        );
        return { index: Number(row?.index), rows: Number(row?.rows), whole: Number(row?.whole) };
      };
      // A session tells what it has done a moment later, and at the latest when it ends: nothing of before shall count.
      const others = `FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`;
      await database.query(
        `SELECT pg_terminate_backend(pid) ${others} AND application_name LIKE 'mqtt-service%'`,
      );
      await until('the end of all sessions', async () => {
        const [left] = await database.query<{ count: string }>(
          `SELECT count(*) ${others} AND application_name LIKE 'mqtt-service%' AND backend_start < now() - INTERVAL '100 ms'`,
        );
        return left?.count === '0';
      });
      await service.untilReady();
      const { body } = await list('?limit=1&from=2004-01-01T00:00:00Z&to=2005-01-01T00:00:00Z');
      const filters = [
        '',
        'device_id=few',
        'device_id=many_1',
        'reason=invalid_json',
        'reason=timestamp_in_future',
        'device_id=many_1&reason=invalid_json',
      ];
      const period = 'from=2004-01-01T00:00:00Z&to=2005-01-01T00:00:00Z';
      const queries = filters.flatMap((filter) => [
        filter,
        `${filter}&${period}`,
        `${filter}&cursor=${body.next_cursor}`,
      ]);
      const before = await statistics();
      for (const query of queries) {
        const found = await list(`?limit=10&${query}`);
        expect(found.body.data.length).toBeGreaterThan(0);
      }
      // PostgreSQL's own statistics come a moment later.
      const after = await until('the statistics', async () => {
        const now = await statistics();
        return now.index >= before.index + queries.length && now;
      });
      expect(after.whole).toBe(before.whole);
      expect(after.rows - before.rows).toBeLessThanOrEqual(queries.length * 20);
    });

    it.each([
      ['limit=0', 'limit'],
      ['limit=1001', 'limit'],
      ['device_id=a%2Fb', 'device_id'],
      ['device_id=', 'device_id'],
      ['reason=because', 'reason'],
      ['reason=invalid_json&reason=invalid_unit', 'reason'],
      ['from=yesterday', 'from'],
      ['to=2024-01-01', 'to'],
      ['cursor=abc', 'cursor'],
      [`cursor=${Buffer.from('["infinity",1]').toString('base64url')}`, 'cursor'],
      [`cursor=${Buffer.from('[1]').toString('base64url')}`, 'cursor'],
      ['unknown=1', 'unknown'],
      ['limit[a]=1', 'limit[a]'],
    ])('refuses ?%s', async (query, field) => {
      const answer = await list(`?${query}`);
      expect({ status: answer.status, code: answer.body.code }).toEqual({
        status: 400,
        code: 'validation_failed',
      });
      expect(answer.body.errors).toContainEqual({ field, message: expect.any(String) });
    });
  });

  describe('POST /rejected-messages/{id}/retry', () => {
    const statusOf = async (deviceId: string): Promise<string> =>
      (await service.read(`/devices/${deviceId}`)).body.status as string;

    it('keeps what is still rejected, with the reason it has now', async () => {
      const id = await put(pressure(120), { deviceId: 'stranger', reason: 'invalid_unit' });
      const answer = await retry(id);
      expect(answer.headers.get('content-type')).toContain('application/problem+json');
      expect(answer.body).toMatchObject({
        status: 409,
        title: 'Conflict',
        code: 'still_rejected',
        detail: expect.stringContaining('unknown_device'),
        reason: 'unknown_device',
        instance: `/rejected-messages/${id}/retry`,
      });
      expect(await kept(id)).toEqual({
        reason: 'unknown_device',
        detail: 'No device of this id is registered.',
      });
    });

    it('stores what can be taken in by now, dated by its receipt, and tells of it once', async () => {
      const watcher = await service.live(`?token=${await service.token()}`);
      await watcher.hear('connected');
      const told: string[] = [];
      const listener = await service.mqtt();
      listener.on('message', (topic) => told.push(topic));
      await listener.subscribeAsync('events/device.data.received/late_1', { qos: 1 });

      await publish('devices/late_1/data', pressure(131));
      const { id, received_at: receivedAt } = await rejectedOf('late_1');
      expect((await retry(id)).status).toBe(409);
      expect((await service.register('late_1', 'blood_pressure_monitor', 5)).status).toBe(201);
      const answer = await retry(id);
      expect(answer.status).toBe(200);
      expect(answer.body).toEqual({ id, status: 'stored', device_id: 'late_1', readings: 2 });

      const { body } = await service.read('/devices/late_1/data');
      expect(body.data).toHaveLength(2);
      expect(body.data).toContainEqual(
        expect.objectContaining({ metric_type: 'systolic', value: 131, timestamp: receivedAt }),
      );
      const rows = await database.query(
        `SELECT FROM device_readings WHERE device_id = 'late_1' AND received_at = $1::timestamptz`,
        [receivedAt],
      );
      expect(rows).toHaveLength(2);
      expect(await kept(id)).toBeUndefined();
      expect((await retry(id)).body).toMatchObject({ status: 404, code: 'rejected_message_not_found' });

      const heard = await watcher.hear('device.data.received', (data) => data['device_id'] === 'late_1');
      expect(heard).toMatchObject({
        time: receivedAt,
        data: { patient_id: 5, metric_type: 'blood_pressure', systolic: 131, timestamp: receivedAt },
      });
      // What comes after it has been heard: so it was told of once, or twice, by now.
      await publish('devices/late_1/data', pressure(132));
      await watcher.hear('device.data.received', (data) => data['systolic'] === 132);
      await until('both events on the broker', () => told.length >= 2);
      expect(
        watcher.messages.filter(
          ({ event, data }) => event === 'device.data.received' && data['systolic'] === 131,
        ),
      ).toHaveLength(1);
      expect(told).toHaveLength(2);
      watcher.end();
      await listener.endAsync();
    });

    it('stores once when two replicas retry it at once', async () => {
      const other = await Service.start({ DATABASE_URL: database.url });
      replica = other;
      await service.register('twice_1');
      const watchers = await Promise.all(
        [service, other].map(async (each) => each.live(`?token=${await each.token()}`)),
      );
      const ids: number[] = [];
      for (let index = 0; index < 20; index += 1)
        ids.push(await put(pressure(100 + index), { deviceId: 'twice_1' }));
      const statuses = await Promise.all(
        ids.map(async (id) => {
          const answers = await Promise.all([retry(id), retry(id, other), retry(id), retry(id, other)]);
          return answers.map(({ status }) => status).sort();
        }),
      );
      expect(statuses).toEqual(ids.map(() => [200, 404, 404, 404]));
      const { body } = await service.read('/devices/twice_1/data?metric_type=systolic');
      expect(body.data).toHaveLength(20);
      for (const watcher of watchers) {
        const told = (): unknown[] =>
          watcher.messages
            .filter(({ event, data }) => event === 'device.data.received' && data['device_id'] === 'twice_1')
            .map(({ data }) => data['systolic']);
        await until('all events', () => told().length >= 20);
        expect(new Set(told()).size).toBe(20);
        expect(told()).toHaveLength(20);
        watcher.end();
      }
    });

    it('takes a buffered upload and an ECG whole, and what is there already once', async () => {
      await service.register('whole_1', 'ecg_monitor');
      const readings = [1, 2, 3].map((minute) => ({
        metric_type: 'heart_rate',
        value: 60 + minute,
        timestamp: `2024-01-01T00:0${minute}:00Z`,
      }));
      const upload = { deviceId: 'whole_1' };
      for (let time = 0; time < 2; time += 1) {
        const answer = await retry(await put(JSON.stringify({ readings }), upload));
        expect(answer.body).toMatchObject({ status: 'stored', readings: 3 });
      }
      expect((await service.read('/devices/whole_1/data')).body.data).toHaveLength(3);
      const ecg = { metric_type: 'ecg', lead: 'II', sampling_rate: 250, unit: 'mV', samples: [0.1, 0.2] };
      expect((await retry(await put(JSON.stringify(ecg), upload))).body).toMatchObject({ readings: 0 });
      expect(
        await database.query(`SELECT lead, samples FROM device_waveforms WHERE device_id = 'whole_1'`),
      ).toEqual([{ lead: 'II', samples: [0.1, 0.2] }]);
    });

    it.each([
      ['invalid_json', '{"metric_type":'],
      ['invalid_payload', '[]'],
      ['device_id_mismatch', '{"device_id":"other","metric_type":"heart_rate","value":70}'],
      ['unsupported_metric', '{"metric_type":"glucose","value":100}'],
      ['invalid_unit', '{"metric_type":"heart_rate","value":70,"unit":"mg/dL"}'],
      ['value_out_of_range', '{"metric_type":"heart_rate","value":7000}'],
      ['payload_too_large', `{"metric_type":"heart_rate","value":70,"pad":"${'x'.repeat(262_144)}"}`],
    ])('judges as the ingest does: %s', async (reason, payload) => {
      await service.register('judged_1');
      const id = await put(payload, { deviceId: 'judged_1' });
      expect((await retry(id)).body).toMatchObject({ status: 409, code: 'still_rejected', reason });
      expect(await kept(id)).toMatchObject({ reason });
    });

    it('does not take a clock that was ahead for right once its time has come', async () => {
      await service.register('ahead_1');
      const payload = pressure(120, ago(HOUR));
      const id = await put(payload, { deviceId: 'ahead_1', receivedAt: ago(2 * HOUR) });
      expect((await retry(id)).body).toMatchObject({ code: 'still_rejected', reason: 'timestamp_in_future' });
    });

    it('keeps what the database refuses, and stores nothing of it', async () => {
      await service.register('refused_1');
      await database.query(
        `ALTER TABLE device_readings ADD CONSTRAINT refuses CHECK (device_id <> 'refused_1' OR value <> 60) NOT VALID`,
      );
      const id = await put(pressure(120), { deviceId: 'refused_1' });
      expect((await retry(id)).body).toMatchObject({
        status: 409,
        code: 'still_rejected',
        reason: 'invalid_payload',
        detail: expect.stringContaining('23514'),
      });
      expect(await kept(id)).toMatchObject({ reason: 'invalid_payload' });
      expect((await service.read('/devices/refused_1/data')).body.data).toEqual([]);
      await database.query('ALTER TABLE device_readings DROP CONSTRAINT refuses');
      expect((await retry(id)).status).toBe(200);
    });

    it('does not retry what is no measurement', async () => {
      await service.register('status_1');
      await publish('devices/status_1/status', '{"status":"asleep"}');
      await publish('devices/status_1/responses', '{"status":"completed"}');
      const ids = await until('both in quarantine', async () => {
        const { data } = (await list('?device_id=status_1')).body as { data: Rejected[] };
        return data.length === 2 && data.map(({ id }) => id);
      });
      ids.push(await put(pressure(120), { topic: 'wards/7/data' }));
      for (const id of ids) {
        const before = await kept(id);
        expect((await retry(id)).body).toMatchObject({ status: 409, code: 'not_retryable' });
        expect(await kept(id)).toEqual(before);
      }
    });

    it('does not bring a device online', async () => {
      await service.register('old_1');
      await service.register('live_1');
      const id = await put(pressure(120), { deviceId: 'old_1', receivedAt: ago(60_000) });
      expect((await retry(id)).status).toBe(200);
      await publish('devices/live_1/data', pressure(120));
      await until('the other device to be online', async () => (await statusOf('live_1')) === 'online');
      expect(await statusOf('old_1')).toBe('inactive');
    });

    it.each(['0', '-1', '1.5', '1e3', 'x', '%00', '01', '9007199254740993', '9223372036854775808'])(
      'refuses the id %s',
      async (id) => {
        expect((await retry(id)).body).toMatchObject({ status: 400 });
      },
    );

    it('answers 404 for a message that is not kept', async () => {
      expect((await retry(999_999_999)).body).toMatchObject({
        status: 404,
        code: 'rejected_message_not_found',
      });
    });
  });
});

(Mosquitto.installed ? describe : describe.skip)('a retained measurement without a date', () => {
  let database: TestDatabase;
  let broker: Mosquitto;
  let service: Service;

  beforeAll(async () => {
    [database, broker] = await Promise.all([createDatabase(), Mosquitto.prepare()]);
    await broker.start();
    service = await Service.prepare({ DATABASE_URL: database.url, ...broker.env });
  });
  afterAll(async () => {
    await service.remove();
    await broker.remove();
    await database.drop();
  });

  it('stays in quarantine: when it was measured is still unknown', async () => {
    const device = await service.mqtt();
    // Retained before anybody subscribed: it comes as what the broker had kept.
    await device.publishAsync('devices/kept_1/data', pressure(120), { qos: 1, retain: true });
    await device.endAsync();
    await service.launch();
    const [message] = await until('the quarantine', async () => {
      const { body } = await service.read('/rejected-messages');
      return body.data?.length > 0 && (body.data as Rejected[]);
    });
    expect((await service.register('kept_1')).status).toBe(201);
    expect((await service.post(`/rejected-messages/${message?.id}/retry`, '')).body).toMatchObject({
      code: 'still_rejected',
      reason: 'invalid_payload',
      detail: expect.stringContaining('retained'),
    });
  });
});
