import type { MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

describe('/metrics', () => {
  let database: TestDatabase;
  let proxy: TcpProxy;
  let service: Service;
  let device: MqttClient;

  beforeAll(async () => {
    database = await createDatabase();
    proxy = await TcpProxy.to(database.url);
    await proxy.mend();
    service = await Service.start({ DATABASE_URL: proxy.through(database.url) });
    await service.register('device_1');
    device = await service.mqtt();
  });
  afterAll(async () => {
    await device.endAsync();
    await service.remove();
    await proxy.cut();
    await database.drop();
  });

  /** All samples, by name with labels. */
  const scrape = async (): Promise<Readonly<Record<string, number>>> => {
    const { text } = await service.get('/metrics');
    const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return Object.fromEntries(
      samples.map((line) => {
        const at = line.lastIndexOf(' ');
        return [line.slice(0, at), Number(line.slice(at + 1))];
      }),
    );
  };
  const rejected = (reason: string): string => `mqtt_service_messages_rejected_total{reason="${reason}"}`;

  it('is Prometheus text, each metric with its help and its type, for everyone', async () => {
    const { status, headers, text } = await service.get('/metrics');
    expect(status).toBe(200);
    expect(headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    const types = Object.fromEntries(
      [...text.matchAll(/^# TYPE (mqtt_service_\w+) (\w+)$/gm)].map(([, name, type]) => [name, type]),
    );
    expect(types).toEqual({
      mqtt_service_messages_stored_total: 'counter',
      mqtt_service_messages_rejected_total: 'counter',
      mqtt_service_readings_stored_total: 'counter',
      mqtt_service_ingest_lag_seconds: 'gauge',
      mqtt_service_messages_in_flight: 'gauge',
      mqtt_service_mqtt_connected: 'gauge',
      mqtt_service_publishes_waiting: 'gauge',
      mqtt_service_broker_dropped_messages_total: 'counter',
      mqtt_service_websocket_clients: 'gauge',
      mqtt_service_stream_messages_sent_total: 'counter',
      mqtt_service_stream_replays_total: 'counter',
      mqtt_service_stream_messages_replayed_total: 'counter',
      mqtt_service_stream_clients_dropped_total: 'counter',
      mqtt_service_webhooks_active: 'gauge',
      mqtt_service_webhook_deliveries_pending: 'gauge',
      mqtt_service_webhook_deliveries_total: 'counter',
      mqtt_service_webhook_attempts_failed_total: 'counter',
      mqtt_service_webhook_deliveries_dead_total: 'counter',
      mqtt_service_database_up: 'gauge',
    });
    for (const name of Object.keys(types)) expect(text).toContain(`# HELP ${name} `);
  });

  it('tells of the process', async () => {
    const now = await scrape();
    expect(now['process_resident_memory_bytes']).toBeGreaterThan(10_000_000);
    expect(now['process_cpu_seconds_total']).toBeGreaterThan(0);
  });

  it('names every reason from the start, so that a rate of the first rejection is seen', async () => {
    const reasons = Object.keys(await scrape()).filter((name) => name.includes('rejected_total'));
    expect(reasons).toHaveLength(10);
  });

  it('counts what is stored, and what is rejected by whichever way it came', async () => {
    const before = await scrape();
    const payload = { metric_type: 'blood_pressure', systolic: 120, diastolic: 80 };
    for (let second = 0; second < 3; second += 1) {
      const dated = { ...payload, timestamp: `2024-01-01T00:00:0${second}Z` };
      await device.publishAsync('devices/device_1/data', JSON.stringify(dated), { qos: 1 });
    }
    for (const [way, sent] of [
      ['data', '{'],
      ['data', '{"metric_type":"glucose","value":100}'],
      ['status', '{'],
      ['responses', '{'],
    ] as const)
      await device.publishAsync(`devices/device_1/${way}`, sent, { qos: 1 });
    const change = async (): Promise<Readonly<Record<string, number>>> =>
      Object.fromEntries(
        Object.entries(await scrape()).map(([name, value]) => [name, value - (before[name] ?? 0)]),
      );
    const counted = await until('all of them', async () => {
      const now = await change();
      return (
        (now[rejected('invalid_json')] ?? 0) >= 3 &&
        (now[rejected('unsupported_metric')] ?? 0) >= 1 &&
        (now['mqtt_service_messages_stored_total'] ?? 0) >= 3 &&
        now
      );
    });
    expect(counted).toMatchObject({
      mqtt_service_messages_stored_total: 3,
      mqtt_service_readings_stored_total: 6,
      [rejected('invalid_json')]: 3,
      [rejected('unsupported_metric')]: 1,
      [rejected('unknown_device')]: 0,
    });
    // Reading is not counting.
    expect((await change())[rejected('invalid_json')]).toBe(3);
  });

  it('counts a reading once, however often it is sent', async () => {
    const before = await scrape();
    const repeated = JSON.stringify({
      metric_type: 'blood_pressure',
      systolic: 121,
      diastolic: 81,
      timestamp: '2024-01-02T00:00:00Z',
    });
    for (let time = 0; time < 3; time += 1)
      await device.publishAsync('devices/device_1/data', repeated, { qos: 1 });
    const risen = (now: Readonly<Record<string, number>>, name: string): number =>
      (now[name] ?? 0) - (before[name] ?? 0);
    const now = await until('all three', async () => {
      const scraped = await scrape();
      return risen(scraped, 'mqtt_service_messages_stored_total') === 3 && scraped;
    });
    expect(risen(now, 'mqtt_service_readings_stored_total')).toBe(2);
  });

  it('counts who watches', async () => {
    expect((await scrape())['mqtt_service_websocket_clients']).toBe(0);
    const client = await service.live(`?token=${await service.token()}`);
    await client.hear('connected');
    expect((await scrape())['mqtt_service_websocket_clients']).toBe(1);
    client.end();
    await until('it to be gone', async () => (await scrape())['mqtt_service_websocket_clients'] === 0);
  });

  it('shows a database that is away, and what waits for it', async () => {
    expect(await scrape()).toMatchObject({
      mqtt_service_database_up: 1,
      mqtt_service_mqtt_connected: 1,
      mqtt_service_messages_in_flight: 0,
      mqtt_service_ingest_lag_seconds: 0,
      mqtt_service_publishes_waiting: 0,
    });
    await proxy.cut();
    const waiting = { metric_type: 'blood_pressure', systolic: 130, diastolic: 80 };
    const sent = device.publishAsync('devices/device_1/data', JSON.stringify(waiting), { qos: 1 });
    await until('the outage', async () => {
      const now = await scrape();
      return (
        now['mqtt_service_database_up'] === 0 &&
        now['mqtt_service_messages_in_flight'] === 1 &&
        (now['mqtt_service_ingest_lag_seconds'] ?? 0) > 0.1
      );
    });
    // In seconds: what has waited for a moment has not waited for a minute.
    expect((await scrape())['mqtt_service_ingest_lag_seconds']).toBeLessThan(45);
    await proxy.mend();
    await sent;
    await until('the end of it', async () => {
      const now = await scrape();
      return now['mqtt_service_database_up'] === 1 && now['mqtt_service_messages_in_flight'] === 0;
    });
  });
});
