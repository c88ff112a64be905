import type { MqttClient } from 'mqtt';
import { brokersHere, startBroker, type BrokerUnderTest } from './support/brokers.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const bloodPressure = (systolic: number, timestamp?: string): string =>
  JSON.stringify({ metric_type: 'blood_pressure', systolic, diastolic: 60, ...(timestamp && { timestamp }) });

describe.each(brokersHere())('measurements by way of %s', (kind) => {
  let database: TestDatabase;
  let broker: BrokerUnderTest;
  let service: Service;
  let device: MqttClient;

  beforeAll(async () => {
    [database, broker] = await Promise.all([createDatabase(), startBroker(kind)]);
    service = await Service.start({ DATABASE_URL: database.url, ...broker.env });
    await service.register('device_1');
    device = await service.mqtt();
  });
  afterAll(async () => {
    await device.endAsync();
    await service.remove();
    await broker.stop();
    await database.drop();
  });

  const publish = (payload: string | Buffer, deviceId = 'device_1'): Promise<unknown> =>
    device.publishAsync(`devices/${deviceId}/data`, payload, { qos: 1 });
  const systolics = async (): Promise<number[]> => {
    const rows = await database.query<{ value: string }>(
      `SELECT value FROM device_readings WHERE metric_type = 'systolic' ORDER BY value`,
    );
    return rows.map(({ value }) => Number(value));
  };

  it('stores a repeated message once, and two values of one instant both', async () => {
    const timestamp = '2024-01-23T10:30:00Z';
    for (const value of [120, 120, 121]) await publish(bloodPressure(value, timestamp));
    await publish(bloodPressure(199, '2024-01-23T10:31:00Z'));
    await until('all of them', async () => (await systolics()).length >= 3);
    expect(await systolics()).toEqual([120, 121, 199]);
  });

  it('quarantines what can not be taken in, with its reason, and goes on', async () => {
    await service.register('glucose_1', 'glucose_meter');
    const nested = `{"metric_type":"glucose","value":100,"deep":${'['.repeat(1_000)}${']'.repeat(1_000)}}`;
    const cases: readonly (readonly [deviceId: string, payload: string | Buffer, reason: string])[] = [
      ['device_1', '{"metric_type":', 'invalid_json'],
      ['device_1', Buffer.from([0xff, 0xfe, 0x00]), 'invalid_json'],
      ['device_1', '', 'invalid_json'],
      ['device_1', '[]', 'invalid_payload'],
      ['device_1', '{"metric_type":"blood_pressure","systolic":"120","diastolic":80}', 'invalid_payload'],
      ['device_1', '{"metric_type":"heart_rate","value":70,"__proto__":{"x":1}}', 'invalid_payload'],
      ['device_1', '{"metric_type":"heart_rate","value":70,"note":"a\\u0000b"}', 'invalid_payload'],
      ['glucose_1', nested, 'invalid_payload'],
      ['stranger', bloodPressure(120), 'unknown_device'],
      ['not valid!', bloodPressure(120), 'unknown_device'],
      ['', bloodPressure(120), 'unknown_device'],
      ['x'.repeat(300), bloodPressure(120), 'unknown_device'],
      ['device_1', '{"device_id":"device_2","metric_type":"heart_rate","value":70}', 'device_id_mismatch'],
      ['device_1', '{"metric_type":"glucose","value":100}', 'unsupported_metric'],
      ['device_1', '{"metric_type":"heart_rate","value":70,"unit":"mg/dL"}', 'invalid_unit'],
      ['device_1', bloodPressure(301), 'value_out_of_range'],
      ['device_1', '{"metric_type":"heart_rate","value":1e999}', 'value_out_of_range'],
      ['device_1', bloodPressure(120, new Date(Date.now() + 600_000).toISOString()), 'timestamp_in_future'],
      [
        'device_1',
        JSON.stringify({ metric_type: 'heart_rate', value: 70, pad: 'x'.repeat(262_144) }),
        'payload_too_large',
      ],
    ];
    for (const [deviceId, payload] of cases) await publish(payload, deviceId);
    const rows = await until('all of them in quarantine', async () => {
      const found = await database.query<{ topic: string; payload: Buffer; reason: string }>(
        'SELECT topic, payload, reason FROM rejected_messages ORDER BY id',
      );
      return found.length >= cases.length && found;
    });
    // Batches are committed side by side, so that ids do not tell the order.
    const kept = rows.map(({ topic, payload, reason }) => `${topic} ${reason} ${payload.toString('base64')}`);
    const expected = cases.map(
      ([deviceId, payload, reason]) =>
        `devices/${deviceId}/data ${reason} ${Buffer.from(payload).toString('base64')}`,
    );
    expect(kept.sort()).toEqual(expected.sort());
    await publish(bloodPressure(142, '2024-01-24T00:00:00Z'));
    await until('the next message', async () => (await systolics()).includes(142));
  });

  it('takes each message of QoS 2 in once', async () => {
    for (const value of [161, 162, 163])
      await device.publishAsync('devices/device_1/data', bloodPressure(value), { qos: 2 });
    await until('all of them', async () => (await systolics()).includes(163));
    const inFlight = async (): Promise<number> =>
      (await service.get('/health/detailed')).body.details.ingest.in_flight as number;
    await until('the acknowledgements', async () => (await inFlight()) === 0);
    expect((await systolics()).filter((value) => value >= 161 && value <= 163)).toEqual([161, 162, 163]);
    expect(service.log.match(/Connected to/g)).toHaveLength(1);
  });

  it('quarantines a retained message without a timestamp: it would be dated anew at every connect', async () => {
    const topic = 'devices/device_1/data';
    await device.publishAsync(topic, bloodPressure(190), { qos: 1, retain: true });
    await until('it, as it was published', async () => (await systolics()).includes(190));
    await service.end();
    await database.query('DELETE FROM mqtt_receipts');
    if (!broker.mosquitto) {
      // The embedded broker's memory ended with the service.
      await service.launch();
      await service.untilReady();
      device = await service.mqtt();
      return;
    }
    // A fresh session gets what is retained.
    const fresh = await Service.start({ DATABASE_URL: database.url, ...broker.env, MQTT_CLIENT_ID: 'fresh' });
    await until(
      'the quarantine',
      async () =>
        (await database.query(`SELECT 1 FROM rejected_messages WHERE detail LIKE '%retained%'`)).length === 1,
    );
    expect((await systolics()).filter((value) => value === 190)).toHaveLength(1);
    await fresh.remove();
    await device.publishAsync(topic, '', { qos: 1, retain: true });
    await service.launch();
    await service.untilReady();
  });

  it('takes each of the six device types in', async () => {
    const messages: readonly (readonly [type: string, payload: object, stored: Record<string, number>])[] = [
      [
        'blood_pressure_monitor',
        { metric_type: 'blood_pressure', systolic: 16, diastolic: 10, unit: 'kPa' },
        { systolic: 120.01, diastolic: 75.01 },
      ],
      ['glucose_meter', { metric_type: 'glucose', value: 5.5, unit: 'mmol/L' }, { glucose: 99.09 }],
      [
        'pulse_oximeter',
        { metric_type: 'spo2', spo2: 97, pulse_rate: 64, perfusion_index: 2.5 },
        { spo2: 97, heart_rate: 64, perfusion_index: 2.5 },
      ],
      ['ecg_monitor', { metric_type: 'heart_rate', value: 58, unit: 'bpm' }, { heart_rate: 58 }],
      [
        'weight_scale',
        { metric_type: 'weight', weight: 150, unit: 'lb', bmi: 22.4 },
        { weight: 68.04, bmi: 22.4 },
      ],
      [
        'temperature_sensor',
        { metric_type: 'temperature', value: 98.6, unit: '°F' },
        { body_temperature: 37 },
      ],
    ];
    for (const [type, payload, stored] of messages) {
      await service.register(`a_${type}`, type);
      await publish(JSON.stringify(payload), `a_${type}`);
      const readings = await until(`the readings of the ${type}`, async () => {
        const { body } = await service.read(`/devices/a_${type}/data`);
        return body.data.length > 0 && (body.data as { metric_type: string; value: number }[]);
      });
      expect(Object.fromEntries(readings.map(({ metric_type, value }) => [metric_type, value]))).toEqual(
        stored,
      );
    }
  });

  it('keeps the original of a converted value', async () => {
    const { body } = await service.read('/devices/a_glucose_meter/latest');
    expect(body.data[0]).toMatchObject({
      unit: 'mg/dL',
      metadata: { original: { value: 5.5, unit: 'mmol/L' } },
    });
  });

  it('stores an ECG segment, and a buffered upload whole', async () => {
    await publish(
      JSON.stringify({
        metric_type: 'ecg',
        lead: 'II',
        sampling_rate: 250,
        unit: 'uV',
        samples: [100, -50, 0],
      }),
      'a_ecg_monitor',
    );
    const [segment] = await until('the segment', async () => {
      const rows = await database.query('SELECT lead, sampling_rate, unit, samples FROM device_waveforms');
      return rows.length > 0 && rows;
    });
    expect(segment).toEqual({ lead: 'II', sampling_rate: 250, unit: 'mV', samples: [0.1, -0.05, 0] });

    const entry = (value: number, minute: number): object => ({
      metric_type: 'spo2',
      value,
      timestamp: `2024-02-01T10:${minute}:00Z`,
    });
    await publish(
      JSON.stringify({ readings: [entry(95, 10), entry(96, 11), entry(12, 12)] }),
      'a_pulse_oximeter',
    );
    await publish(JSON.stringify({ readings: [entry(97, 13), entry(98, 14)] }), 'a_pulse_oximeter');
    const values = await until('the good upload', async () => {
      const { body } = await service.read(
        '/devices/a_pulse_oximeter/data?metric_type=spo2&from=2024-02-01T00:00:00Z&to=2024-02-02T00:00:00Z',
      );
      return body.data.length > 0 && body.data.map(({ value }: { value: number }) => value);
    });
    expect(values).toEqual([98, 97]);
  });

  it('tells other systems by CloudEvents on the broker', async () => {
    const heard: { topic: string; event: Record<string, unknown> }[] = [];
    device.on('message', (topic, payload) =>
      heard.push({ topic, event: JSON.parse(payload.toString('utf8')) as Record<string, unknown> }),
    );
    await device.subscribeAsync('events/#', { qos: 1 });
    const message = bloodPressure(133, '2024-03-01T00:00:00Z');
    await publish(message);
    await publish(message);
    await publish('{');
    await until('the events', () => heard.some(({ topic }) => topic === 'events/message.rejected/device_1'));
    const data = heard.filter(({ topic }) => topic === 'events/device.data.received/device_1');
    expect(data[0]?.event).toMatchObject({
      specversion: '1.0',
      source: expect.any(String),
      type: 'device.data.received',
      subject: 'device_1',
      datacontenttype: 'application/json',
      data: { device_id: 'device_1', patient_id: 1, metric_type: 'blood_pressure', systolic: 133 },
    });
    expect(new Set(data.map(({ event }) => event['id'])).size).toBe(1);
    await device.unsubscribeAsync('events/#');
    device.removeAllListeners('message');
  });

  it('takes in what grows, tells a part of it, and goes on', async () => {
    const heard: { topic: string; bytes: number; data: Record<string, unknown> }[] = [];
    device.on('message', (topic, payload) => {
      const { data } = JSON.parse(payload.toString('utf8')) as { data: Record<string, unknown> };
      heard.push({ topic, bytes: payload.length, data });
    });
    await device.subscribeAsync('events/#', { qos: 1 });
    const timestamp = '2024-03-02T00:00:00Z';
    // Written down again, 1e20 has 21 digits.
    const grows = `{"metric_type":"heart_rate","value":71,"timestamp":"${timestamp}","far":[${'1e20,'.repeat(40_000)}0]}`;
    const copies = JSON.stringify({
      note: 'x'.repeat(100_000),
      readings: Array.from({ length: 1_000 }, () => ({ metric_type: 'heart_rate', value: 72, timestamp })),
    });
    await publish(grows);
    await publish(copies);
    await publish(bloodPressure(134, '2024-03-02T00:01:00Z'));
    const told = await until('the event that follows', () => {
      const ofData = heard.filter(({ topic }) => topic === 'events/device.data.received/device_1');
      return ofData.some(({ data }) => data['systolic'] === 134) && ofData;
    });
    const reduced = told.find(({ data }) => data['truncated'] === true);
    expect(reduced?.bytes).toBeLessThan(1_000);
    expect(reduced?.data).toEqual({
      device_id: 'device_1',
      patient_id: 1,
      metric_type: 'heart_rate',
      timestamp,
      readings: [expect.objectContaining({ metric_type: 'heart_rate', value: 71 })],
      truncated: true,
    });
    const [kept] = await until('the one that would grow too much, in quarantine', async () => {
      const rows = await database.query<{ reason: string }>(
        `SELECT reason FROM rejected_messages WHERE detail LIKE '%each of its 1000 readings%'`,
      );
      return rows.length > 0 && rows;
    });
    expect(kept).toEqual({ reason: 'payload_too_large' });
    await device.unsubscribeAsync('events/#');
    device.removeAllListeners('message');
  });

  it('tells when a device connects and disconnects, and ignores the late will of an older session', async () => {
    const watcher = await service.live(`?token=${await service.token()}`);
    await watcher.hear('connected');
    const say = (payload: object): Promise<unknown> =>
      device.publishAsync('devices/a_weight_scale/status', JSON.stringify(payload), { qos: 1 });
    await say({ status: 'offline' });
    await watcher.hear('device.disconnected', ({ device_id }) => device_id === 'a_weight_scale');
    await say({ status: 'online', session: 'b', battery: 50 });
    await watcher.hear('device.connected', ({ device_id }) => device_id === 'a_weight_scale');
    await say({ status: 'offline', session: 'a' });
    await say({ status: 'online', session: 'b', battery: 49 });
    await until(
      'the battery',
      async () => (await service.read('/devices/a_weight_scale')).body.battery === 49,
    );
    expect((await service.read('/devices/a_weight_scale')).body.status).toBe('online');
    const changes = watcher.messages.filter(({ data }) => data['device_id'] === 'a_weight_scale');
    expect(changes.map(({ event }) => event)).toEqual(['device.disconnected', 'device.connected']);
    watcher.end();
  });

  it('confines a device that gives its account to its own topics', async () => {
    if (kind !== 'embedded') return;
    const { body } = await service.register('locked_1');
    const { username, password, client_id: clientId } = body.credentials;
    const own = await service.mqtt({ username, password, clientId });
    await own.publishAsync('devices/locked_1/data', bloodPressure(150, '2024-05-01T00:00:00Z'), { qos: 1 });
    await until('its measurement', async () => (await systolics()).includes(150));
    await own.subscribeAsync('devices/locked_1/commands', { qos: 1 });
    for (const foreign of ['devices/device_1/commands', 'devices/+/commands', '#']) {
      await expect(own.subscribeAsync(foreign, { qos: 1 })).rejects.toThrow();
    }
    const dropped = new Promise<void>((resolve) => own.once('close', () => resolve()));
    own.publish('devices/device_1/data', bloodPressure(151, '2024-05-01T00:00:00Z'), { qos: 1 });
    await dropped;
    await own.endAsync(true);
    await expect(service.mqtt({ username, password: 'wrong', clientId })).rejects.toThrow();
    await expect(service.mqtt({ username, password, clientId: 'another' })).rejects.toThrow();
    expect(await systolics()).not.toContain(151);
  });
});
