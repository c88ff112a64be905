import { join } from 'node:path';
import type { MqttClient } from 'mqtt';
import { Client } from 'pg';
import { brokersHere, startBroker, type BrokerUnderTest } from './support/brokers.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { nameOf, type LiveClient } from './support/live-client.js';
import { Mosquitto } from './support/mosquitto.js';
import { MqttDevice } from './support/mqtt-device.js';
import {
  causesOf,
  historyOf,
  idOf,
  listen,
  untilStatus,
  viewOf,
  type Change,
  type ToldEvent,
} from './support/presence.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

describe.each(brokersHere())('presence, on the broker %s', (kind) => {
  let database: TestDatabase;
  let broker: BrokerUnderTest;
  let service: Service;
  let watcher: LiveClient;
  let listener: MqttClient;
  let told: ToldEvent[];
  const open: MqttDevice[] = [];

  beforeAll(async () => {
    [database, broker] = await Promise.all([createDatabase(), startBroker(kind)]);
    service = await Service.start({ DATABASE_URL: database.url, ...broker.env });
    watcher = await service.live(`?token=${await service.token()}`);
    await watcher.hear('connected');
    listener = await service.mqtt();
    told = await listen(listener);
  });
  afterAll(async () => {
    watcher.end();
    await Promise.all(open.map((device) => device.end()));
    await listener.endAsync(true);
    await service.remove();
    await broker.stop();
    await database.drop();
  });

  const connect = async (id: string, session: string): Promise<MqttDevice> => {
    const device = await MqttDevice.connect(service, id, session);
    open.push(device);
    return device;
  };
  /** Until all that a device has sent before has been taken in: a battery that only this message speaks of. */
  const settle = async (device: MqttDevice, battery: number): Promise<void> => {
    await device.say({ status: 'online', session: device.session, battery });
    await until('the battery', async () => (await viewOf(service, device.id))['battery'] === battery);
  };

  it('follows connections, and no late will takes a newer one offline', async () => {
    await service.register('scale_1', 'weight_scale');
    expect(await viewOf(service, 'scale_1')).toMatchObject({ status: 'inactive', last_data_at: null });
    const first = await connect('scale_1', 'first');
    await untilStatus(service, 'scale_1', 'online');
    first.kill();
    await untilStatus(service, 'scale_1', 'offline');

    const second = await connect('scale_1', 'second');
    await untilStatus(service, 'scale_1', 'online');
    const third = await connect('scale_1', 'third');
    await settle(third, 80);
    const heard = new Promise<void>((resolve) => {
      listener.on('message', (topic) => topic === 'devices/scale_1/status' && resolve());
    });
    await listener.subscribeAsync('devices/scale_1/status', { qos: 1 });
    second.kill();
    // The will is out, and what is said after it comes in after it.
    await heard;
    await listener.unsubscribeAsync('devices/scale_1/status');
    await settle(third, 79);
    expect((await viewOf(service, 'scale_1'))['status']).toBe('online');
    third.kill();
    await untilStatus(service, 'scale_1', 'offline');
    expect(await causesOf(service, 'scale_1')).toEqual([
      'online by status',
      'offline by will',
      'online by status',
      'offline by will',
    ]);
  });

  it('tells of each change once, on the broker and on the WebSocket', async () => {
    const changes = (await historyOf(service, 'scale_1')).reverse();
    const ids = changes.map((change) => idOf(change, 'scale_1'));
    const ofDevice = (): ToldEvent[] => told.filter(({ subject }) => subject === 'scale_1');
    await until('all to be told', () => ofDevice().length >= ids.length);
    expect(ofDevice().map(({ id }) => id)).toEqual(ids);
    expect(ofDevice().map(({ type, data }) => [type, data['cause']])).toEqual(
      changes.map(({ status, cause }) => [
        status === 'online' ? 'device.connected' : 'device.disconnected',
        cause,
      ]),
    );
    const live = (): string[] =>
      watcher.messages.filter(({ data }) => data['device_id'] === 'scale_1' && 'cause' in data).map(nameOf);
    await until('the watcher to be told', () => live().length >= ids.length);
    expect(live()).toEqual(ids);
    await until('that to be noted', async () => {
      const [row] = await database.query<{ untold: string }>(
        'SELECT count(tell_after) AS untold FROM device_status_changes',
      );
      return row?.untold === '0';
    });
  });

  it('takes a measurement for a sign of life', async () => {
    await service.register('scale_2', 'weight_scale');
    const scale = await connect('scale_2', 'one');
    await untilStatus(service, 'scale_2', 'online');
    expect((await viewOf(service, 'scale_2'))['last_data_at']).toBeNull();
    await scale.say({ status: 'offline', session: 'one' });
    await untilStatus(service, 'scale_2', 'offline');
    const before = Date.now();
    await scale.weigh(70);
    await untilStatus(service, 'scale_2', 'online');
    const { last_data_at, last_seen } = await viewOf(service, 'scale_2');
    expect(last_data_at).toBe(last_seen);
    expect(Date.parse(String(last_data_at))).toBeGreaterThanOrEqual(before);
    expect(await causesOf(service, 'scale_2')).toEqual([
      'online by status',
      'offline by status',
      'online by data',
    ]);
    await settle(scale, 70);
    expect((await viewOf(service, 'scale_2'))['last_data_at']).toBe(last_data_at);
  });

  it('is not misled by a measurement that came in before the end, and is noted after it', async () => {
    await service.register('scale_6', 'weight_scale');
    const scale = await connect('scale_6', 'one');
    await untilStatus(service, 'scale_6', 'online');
    const lastData = async (): Promise<unknown> => (await viewOf(service, 'scale_6'))['last_data_at'];
    await scale.weigh(70);
    const first = await until('the first measurement', lastData);
    // Of a device that is known to be there, it is noted some time later.
    await scale.weigh(71);
    await scale.say({ status: 'offline', session: 'one' });
    await until('the second to be noted', async () => (await lastData()) !== first);
    expect(await causesOf(service, 'scale_6')).toEqual(['online by status', 'offline by status']);
  });

  it('tells of a low battery once in a discharge', async () => {
    await service.register('scale_3', 'weight_scale');
    const scale = await connect('scale_3', 'one');
    for (const battery of [20, 19, 18, 24, 5, 25, 19]) await settle(scale, battery);
    const ofDevice = (): ToldEvent[] =>
      told.filter(({ subject, type }) => subject === 'scale_3' && type === 'device.battery.low');
    await until('two discharges', () => ofDevice().length >= 2);
    expect(ofDevice().map(({ data }) => data)).toEqual([
      { battery: 19, device_id: 'scale_3', patient_id: 1 },
      { battery: 19, device_id: 'scale_3', patient_id: 1 },
    ]);
    expect(new Set(ofDevice().map(({ id }) => id)).size).toBe(2);
    const live = (): string[] =>
      watcher.messages
        .filter(({ event, data }) => event === 'device.battery.low' && data['device_id'] === 'scale_3')
        .map(nameOf);
    await until('the watcher to be told', () => live().length >= 2);
    expect(live()).toEqual(ofDevice().map(({ id }) => id));
  });

  it('ends with the service of a device', async () => {
    await service.register('scale_4', 'weight_scale');
    await connect('scale_4', 'one');
    await untilStatus(service, 'scale_4', 'online');
    await service.delete('/devices/scale_4');
    expect(await causesOf(service, 'scale_4')).toEqual(['online by status', 'offline by decommissioned']);
    await until('that to be told', () =>
      told.find(({ subject, data }) => subject === 'scale_4' && data['cause'] === 'decommissioned'),
    );
  });

  describe('GET /devices/{device_id}/status-history', () => {
    it('pages, newest first', async () => {
      const all = await historyOf(service, 'scale_1');
      expect(all.map(({ id }) => id)).toEqual(all.map(({ id }) => id).sort((a, b) => b - a));
      const paged: Change[] = [];
      let cursor: string | null = '';
      while (cursor !== null) {
        const query: string = cursor === '' ? '' : `&cursor=${cursor}`;
        const { body } = await service.read(`/devices/scale_1/status-history?limit=3${query}`);
        paged.push(...(body.data as Change[]));
        cursor = body.next_cursor;
      }
      expect(paged).toEqual(all);
      expect(all.at(0)).toEqual({
        id: expect.any(Number),
        device_id: 'scale_1',
        status: 'offline',
        cause: 'will',
        timestamp: expect.any(String),
        session: 'third',
        battery: 79,
        signal_strength: null,
        last_seen: expect.any(String),
      });
    });

    it('shows the new patient nothing of before', async () => {
      await service.register('scale_5', 'weight_scale', 5);
      const scale = await connect('scale_5', 'one');
      await untilStatus(service, 'scale_5', 'online');
      await service.patch('/devices/scale_5', { patient_id: 6 });
      const as = async (patientId: number): Promise<{ status: number; body: { data: Change[] } }> => {
        const token = await service.token({ role: 'patient', patient_id: patientId });
        return service.get('/devices/scale_5/status-history', { authorization: `Bearer ${token}` });
      };
      expect((await as(6)).body.data).toEqual([]);
      await scale.say({ status: 'offline' });
      await untilStatus(service, 'scale_5', 'offline');
      expect((await as(6)).body.data.map(({ status }) => status)).toEqual(['offline']);
      expect((await as(5)).status).toBe(404);
      expect(await causesOf(service, 'scale_5')).toHaveLength(2);
    });

    it.each([
      ['limit=0', 'limit'],
      ['cursor=nonsense', 'cursor'],
    ])('refuses %s', async (query, field) => {
      const { status, body } = await service.read(`/devices/scale_1/status-history?${query}`);
      expect([status, body.errors?.[0].field]).toEqual([400, field]);
    });
  });

  it('outlives a restart of the service alone, and is not taken in by what was retained', async () => {
    for (const id of ['there_1', 'gone_1', 'gone_2', 'other_1']) await service.register(id, 'weight_scale');
    await connect('there_1', 'one');
    const gone = await connect('gone_1', 'one');
    await gone.say({ status: 'online', session: 'one' }, true);
    const scale = await connect('gone_2', 'one');
    await scale.weigh(70, { timestamp: '2024-01-01T00:00:00Z' }, true);
    await Promise.all(['there_1', 'gone_1', 'gone_2'].map((id) => untilStatus(service, id, 'online')));
    await until('the measurement', async () => (await viewOf(service, 'gone_2'))['last_data_at']);
    for (const device of [gone, scale]) device.kill();
    await Promise.all(['gone_1', 'gone_2'].map((id) => untilStatus(service, id, 'offline')));
    const before = await Promise.all(['there_1', 'gone_1', 'gone_2'].map((id) => historyOf(service, id)));

    await service.end();
    // A session that is new gets what was retained; the embedded broker has forgotten everything.
    const again = await Service.start({
      DATABASE_URL: database.url,
      ...broker.env,
      MQTT_CLIENT_ID: 'another_session',
    });
    const other = await MqttDevice.connect(again, 'other_1', 'one');
    await untilStatus(again, 'other_1', 'online');
    await other.weigh(70);
    await until('its data', async () => (await viewOf(again, 'other_1'))['last_data_at']);
    expect(await Promise.all(['there_1', 'gone_1', 'gone_2'].map((id) => historyOf(again, id)))).toEqual(
      before,
    );
    expect((await viewOf(again, 'there_1'))['status']).toBe('online');
    await other.end();
    await again.remove();
    await service.launch();
    await service.untilReady();
  });
});

describe('silence', () => {
  const SILENCE_MS = 2_000;
  let database: TestDatabase;
  let service: Service;

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({ DATABASE_URL: database.url, DEVICE_OFFLINE_AFTER: `${SILENCE_MS}ms` });
    for (const id of ['talker', 'silent', 'waiting']) await service.register(id, 'weight_scale');
  });
  afterAll(async () => {
    await service.remove();
    await database.drop();
  });

  it('turns a device offline, and not one that sends', async () => {
    const talker = await MqttDevice.connect(service, 'talker', 'one');
    const silent = await MqttDevice.connect(service, 'silent', 'one');
    const weights = setInterval(() => void talker.weigh(70), 100);
    try {
      await untilStatus(service, 'silent', 'offline');
      await silent.weigh(70);
      await untilStatus(service, 'silent', 'online');
      await untilStatus(service, 'silent', 'offline');
      expect(await causesOf(service, 'silent')).toEqual([
        'online by status',
        'offline by timeout',
        'online by data',
        'offline by timeout',
      ]);
      expect(await causesOf(service, 'talker')).toEqual(['online by status']);
    } finally {
      clearInterval(weights);
    }
    // The will of one that has long been offline changes nothing.
    silent.kill();
    await untilStatus(service, 'talker', 'offline');
    expect(await historyOf(service, 'silent')).toHaveLength(4);
    await talker.end();
  });

  it('is not heard while measurements wait to be stored', async () => {
    await service.register('patient', 'weight_scale');
    const device = await MqttDevice.connect(service, 'patient', 'one');
    await untilStatus(service, 'patient', 'online');
    await device.weigh(70);
    await until('it to be known', async () => (await viewOf(service, 'patient'))['last_data_at']);
    const weights = setInterval(() => void device.weigh(70), 100);
    const stall = new Client({ connectionString: database.url });
    await stall.connect();
    try {
      await stall.query('BEGIN; LOCK TABLE device_readings IN EXCLUSIVE MODE');
      await until('more than a silence', async () => {
        const longer = `SELECT FROM medical_devices WHERE device_id = 'patient' AND last_seen < now() - interval '4 seconds'`;
        return (await database.query(longer)).length === 1;
      });
      await stall.query('COMMIT');
      const stored = (await viewOf(service, 'patient'))['last_data_at'];
      await until(
        'what has waited',
        async () => (await viewOf(service, 'patient'))['last_data_at'] !== stored,
      );
      expect(await causesOf(service, 'patient')).toEqual(['online by status']);
    } finally {
      clearInterval(weights);
      await stall.end();
    }
    await device.end();
  });

  it('counts only while somebody listens', async () => {
    const device = await MqttDevice.connect(service, 'waiting', 'one');
    await untilStatus(service, 'waiting', 'online');
    await service.end();
    await database.query(`UPDATE medical_devices SET last_seen = now() - interval '1 hour'`);
    await service.launch();
    const [change] = await until('the silence', async () => {
      const [newest] = await historyOf(service, 'waiting');
      return newest?.cause === 'timeout' && [newest];
    });
    const connects = [...service.log.matchAll(/"time":(\d+)[^\n]*Connected to 127\.0\.0\.1/g)];
    expect(connects).toHaveLength(2);
    // It listens from a moment after that on.
    const listensSince = Number(connects[1]?.[1]);
    expect(Date.parse(change.timestamp) - listensSince).toBeGreaterThanOrEqual(SILENCE_MS);
    await device.end();
  });

  it('tells again, under its id, of what a process that has died did not get to tell', async () => {
    const listener = await service.mqtt();
    const told = await listen(listener);
    const [change] = await historyOf(service, 'waiting');
    if (!change) throw new Error('no change');
    await database.query(
      `UPDATE device_status_changes SET tell_after = now() - interval '1 second' WHERE id = $1`,
      [change.id],
    );
    const event = await until('the event', () => told.find(({ subject }) => subject === 'waiting'));
    expect(event).toMatchObject({
      id: idOf(change, 'waiting'),
      type: 'device.disconnected',
      data: { cause: 'timeout' },
    });

    const device = await MqttDevice.connect(service, 'waiting', 'two');
    await device.say({ status: 'online', session: 'two', battery: 7 });
    const low = await until('the low battery', () => told.find(({ type }) => type === 'device.battery.low'));
    const untold = `SELECT FROM medical_devices WHERE battery_tell_after IS NOT NULL`;
    await until('that to be noted', async () => (await database.query(untold)).length === 0);
    await database.query(
      `UPDATE medical_devices SET battery_tell_after = now() - interval '1 second',
         presence_memory = jsonb_set(presence_memory, '{untoldLow}', jsonb_build_array(presence_memory->'lowBattery'))
       WHERE device_id = 'waiting'`,
    );
    await until('it again', () => told.filter(({ id }) => id === low.id).length === 2);
    await until('that to be noted', async () => (await database.query(untold)).length === 0);
    await device.end();
    await listener.endAsync();
  });
});

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;

describeWithMosquitto('status messages that are delivered again', () => {
  let database: TestDatabase;
  let mosquitto: Mosquitto;

  beforeAll(async () => {
    [database, mosquitto] = await Promise.all([createDatabase(), Mosquitto.prepare()]);
    await mosquitto.start();
  });
  afterAll(async () => {
    await mosquitto.remove();
    await database.drop();
  });

  it.each(['5', '3.1.1'])(
    'since the service was killed after it had stored them, are told of once, over MQTT %s',
    async (version) => {
      const id = `scale_${version}`;
      const env = {
        DATABASE_URL: database.url,
        ...mosquitto.env,
        MQTT_PROTOCOL_VERSION: version,
        MQTT_CLIENT_ID: `of_${version}`,
        // What has not been told of is looked for so much more often.
        DEVICE_OFFLINE_AFTER: '20s',
      };
      const service = await Service.start(env);
      await service.register(id, 'weight_scale');
      const listener = await service.mqtt();
      const told = await listen(listener);
      const say = (status: string, session: string, more = {}): Promise<unknown> =>
        listener.publishAsync(`devices/${id}/status`, JSON.stringify({ status, session, ...more }), {
          qos: 1,
        });
      await service.end();
      for (const session of ['one', 'two']) {
        await say('online', session);
        await say('offline', session);
      }
      const killed = await Service.prepare({
        ...env,
        KILL_AT: 'presence committed',
        NODE_OPTIONS: `--import ${join(process.cwd(), 'test', 'support', 'kill-at.mjs')}`,
      });
      expect((await killed.launchInVain()).code).toBeNull();
      const untold = await database.query(
        `UPDATE device_status_changes SET tell_after = now() WHERE device_id = $1 RETURNING id`,
        [id],
      );
      // Taken for new, these would change something again.
      expect(untold.length).toBeGreaterThanOrEqual(2);
      expect(told).toEqual([]);

      await service.launch();
      await service.untilReady();
      await say('online', 'three', { battery: 42 });
      await until('all to be taken in', async () => (await viewOf(service, id))['battery'] === 42);
      const changes = (await historyOf(service, id)).reverse();
      expect(changes.map(({ status, session }) => `${status} ${session}`)).toEqual([
        'online one',
        'offline one',
        'online two',
        'offline two',
        'online three',
      ]);
      await until('all to be told of, and that to be noted', async () => {
        const rows = await database.query('SELECT FROM device_status_changes WHERE tell_after IS NOT NULL');
        return rows.length === 0 && told.length >= changes.length;
      });
      expect(told.map((event) => event.id).sort()).toEqual(changes.map((change) => idOf(change, id)).sort());
      await listener.endAsync();
      await Promise.all([service.remove(), killed.remove()]);
    },
  );
});

describeWithMosquitto('presence with three replicas that share the messages', () => {
  const IDS = Array.from({ length: 30 }, (_, index) => `scale_${index}`);
  let database: TestDatabase;
  let mosquitto: Mosquitto;
  let replicas: Service[];
  let listener: MqttClient;
  let told: ToldEvent[];

  beforeAll(async () => {
    [database, mosquitto] = await Promise.all([createDatabase(), Mosquitto.prepare()]);
    await mosquitto.start();
    const env = {
      DATABASE_URL: database.url,
      ...mosquitto.env,
      MQTT_SHARED_GROUP: 'replicas',
      DEVICE_OFFLINE_AFTER: '6s',
    };
    replicas = await Promise.all(
      [1, 2, 3].map((number) => Service.start({ ...env, MQTT_CLIENT_ID: `replica_${number}` })),
    );
    for (const id of IDS) await replicas[0]?.register(id, 'weight_scale');
    listener = await (replicas[0] as Service).mqtt();
    told = await listen(listener);
  });
  afterAll(async () => {
    await listener.endAsync(true);
    await Promise.all(replicas.map((replica) => replica.remove()));
    await mosquitto.remove();
    await database.drop();
  });

  const publish = (id: string, status: object): Promise<unknown> =>
    listener.publishAsync(`devices/${id}/status`, JSON.stringify(status), { qos: 1 });
  const changes = (): Promise<{ id: string; device_id: string; status: string; cause: string }[]> =>
    database.query('SELECT id, device_id, status, cause FROM device_status_changes ORDER BY id');
  const statuses = async (): Promise<string[]> =>
    (await database.query<{ status: string }>('SELECT status FROM medical_devices ORDER BY id')).map(
      ({ status }) => status,
    );

  it('end with what is, whoever takes which message in, and tell of each change once', async () => {
    await Promise.all(
      IDS.flatMap((id) => [
        publish(id, { status: 'online', session: 'one', battery: 90 }),
        publish(id, { status: 'online', session: 'two', battery: 50 }),
        publish(id, { status: 'offline', session: 'one' }),
      ]),
    );
    // Until the ends have been heard of, too.
    await until('all to be taken in', async () => {
      const rows = await database.query(
        `SELECT FROM medical_devices WHERE presence_memory->'sessions' @> '[{"name": "one"}, {"name": "two"}]'
           AND NOT presence_memory->'sessions' @> '[{"name": "one", "state": "open"}]'`,
      );
      return rows.length === IDS.length;
    });
    expect(await statuses()).toEqual(IDS.map(() => 'online'));

    await until('all to be silent', async () => (await statuses()).every((status) => status === 'offline'));
    const all = await changes();
    const ids = all.map((change) => idOf(change, change.device_id));
    await until('all to be told', () => new Set(told.map(({ id }) => id)).size >= ids.length);
    expect(told.map(({ id }) => id).sort()).toEqual(ids.sort());
    for (const id of IDS) {
      const own = all.filter(({ device_id }) => device_id === id);
      expect(own.filter(({ cause }) => cause === 'timeout')).toHaveLength(1);
      // Each is another than the one before.
      expect(own.map(({ status }) => status)).toEqual(
        own.map((_change, index) => (index % 2 === 0 ? 'online' : 'offline')),
      );
    }
  });

  it('one that is killed leaves nothing untold', async () => {
    const before = told.length;
    const [killed, , teller] = replicas as [Service, Service, Service];
    const flood = Promise.all(IDS.map((id) => publish(id, { status: 'online', session: 'three' })));
    await until('the first to be told', () => told.length > before);
    await killed.end('SIGKILL');
    await flood;
    await killed.launch();
    await until('all to be there', async () => {
      const rows = await database.query(
        `SELECT FROM medical_devices WHERE presence_memory->'sessions' @> '[{"name": "three"}]'`,
      );
      return rows.length === IDS.length;
    });
    await until('all to be told, as if the time for it were over', async () => {
      await database.query(
        `UPDATE device_status_changes SET tell_after = now() - interval '1 second' WHERE tell_after > now()`,
      );
      const known = new Set(told.map(({ id }) => id));
      return (await changes()).every((change) => known.has(idOf(change, change.device_id)));
    });
    const again = (await changes()).filter(({ status }) => status === 'online');
    for (const id of IDS)
      expect(again.filter(({ device_id }) => device_id === id).length).toBeGreaterThanOrEqual(2);
    expect((await historyOf(teller, IDS[0] ?? '')).length).toBeGreaterThanOrEqual(3);
  });
});
