import type { MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from './support/database.js';
import { EventSourceClient } from './support/event-source.js';
import type { LiveClient, LiveMessage } from './support/live-client.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const PER_TOKEN = 4;
const TOTAL = 8;
const waveforms = (client: { messages: readonly LiveMessage[] }): LiveMessage[] =>
  told(client).filter(({ data }) => data['metric_type'] === 'ecg');
const told = ({ messages }: { messages: readonly LiveMessage[] }): LiveMessage[] =>
  messages.filter(({ id }) => id !== undefined);

describe('server-sent events at GET /stream', () => {
  let database: TestDatabase;
  let service: Service;
  let device: MqttClient;
  let witness: LiveClient;
  let minute = 0;
  const open: EventSourceClient[] = [];
  const tokens = new Map<string, string>();

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({
      DATABASE_URL: database.url,
      WS_MAX_CLIENTS_PER_TOKEN: String(PER_TOKEN),
      WS_MAX_CLIENTS: String(TOTAL),
      WS_PING_INTERVAL: '5s',
    });
    device = await service.mqtt();
    await service.register('heart_1', 'ecg_monitor', 1);
    await service.register('heart_2', 'ecg_monitor', 2);
    await service.register('heart_3', 'ecg_monitor', 3);
    witness = await service.live(`?token=${await service.token({ role: 'admin', ward: 'witness' })}`);
    await witness.hear('connected');
    witness.say({ event: 'subscribe', data: { device_ids: ['heart_1', 'heart_2'] } });
    await witness.hear('subscribed');
  });
  afterEach(async () => {
    for (const client of open.splice(0)) client.end();
    await untilWatched(1);
  });
  afterAll(async () => {
    witness.end();
    await device.endAsync();
    await service.remove();
    await database.drop();
  });

  const untilWatched = (count: number): Promise<true> =>
    until(
      `${count} clients`,
      async () => (await service.get('/health/detailed')).body.info.websocket.clients === count,
    );
  const ask = async (
    claims: Record<string, unknown>,
    query = '',
    headers: Record<string, string> = {},
    expiresIn = '1h',
  ): Promise<EventSourceClient> => {
    const wanted = JSON.stringify([claims, expiresIn]);
    // A token made in another second is another token.
    const token = tokens.get(wanted) ?? (await service.token(claims, expiresIn));
    tokens.set(wanted, token);
    const authorization = `Bearer ${token}`;
    const client = await EventSourceClient.open(service.port, query, { authorization, ...headers });
    open.push(client);
    return client;
  };
  const watch = async (...asked: Parameters<typeof ask>): Promise<EventSourceClient> => {
    const client = await ask(...asked);
    expect(client.response.statusCode).toBe(200);
    await client.hear('connected');
    return client;
  };
  const problem = async (query: string, headers: Record<string, string> = {}) => {
    const { status, body } = await service.read(`/stream${query}`, headers);
    return `${status} ${body.code}`;
  };
  /** Publishes a heart rate and waits until it has been streamed. */
  const beat = async (deviceId: string, value: number): Promise<void> => {
    minute += 1;
    const timestamp = new Date(Date.UTC(2024, 0, 1, 0, minute)).toISOString();
    const payload = JSON.stringify({ metric_type: 'heart_rate', value, timestamp });
    await device.publishAsync(`devices/${deviceId}/data`, payload, { qos: 1 });
    await witness.hear('device.data.received', (data) => data['timestamp'] === timestamp);
  };
  const values = (client: EventSourceClient): unknown[] =>
    client.messages.filter(({ event }) => event === 'device.data.received').map(({ data }) => data['value']);

  it('tells what the WebSocket tells, word for word, and shows that it is still there', async () => {
    const client = await watch({ role: 'admin' });
    const { headers } = client.response;
    expect(headers).toMatchObject({ 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    const before = told(witness).length;
    expect(client.lastEventId).toBe(client.messages[0]?.data['last_id']);
    await beat('heart_1', 60);
    await service.post('/devices/heart_1/command', { command: 'identify' });
    await witness.hear('command.queued');
    await until('as much', () => told(client).length >= told(witness).length - before);
    expect(told(client)).toEqual(told(witness).slice(before, before + told(client).length));
    expect(client.lastEventId).toBe(told(client).at(-1)?.id);
    await until('a heartbeat', () => client.heartbeats > 0);
  });

  it('narrows as a subscription does, and shows nobody more', async () => {
    const both = await watch({ role: 'viewer' });
    const second = await watch({ role: 'viewer' }, '?device_ids=heart_2,other&events=device.data.received');
    const patient = await watch({ role: 'patient', patient_id: 2 });
    const elsewhere = await watch({ role: 'admin', tenant: 'north' });
    const metric = await watch({ role: 'admin' }, '?metric_types=ecg,spo2&patient_ids=1');
    await beat('heart_1', 71);
    await beat('heart_2', 72);
    for (const client of [both, second, patient])
      await client.hear('device.data.received', (data) => data['value'] === 72);
    await service.post('/devices/heart_2/command', { command: 'identify' });
    await witness.hear('command.queued', (data) => data['device_id'] === 'heart_2');
    await beat('heart_2', 73);
    await both.hear('device.data.received', (data) => data['value'] === 73);
    expect([both, second, patient, elsewhere, metric].map(values)).toEqual([
      [71, 72, 73],
      [72, 73],
      [72, 73],
      [],
      [],
    ]);
    expect(both.messages.map(({ event }) => event)).not.toContain('command.queued');
    expect(told(elsewhere)).toEqual([]);
  });

  it('goes on behind the last id that was read, by header before query', async () => {
    const first = await watch({ role: 'viewer' });
    await beat('heart_1', 81);
    await first.hear('device.data.received', (data) => data['value'] === 81);
    const since = first.lastEventId;
    const earlier = String(first.messages[0]?.data['last_id']);
    first.end();
    await beat('heart_1', 82);
    const byHeader = await watch({ role: 'viewer' }, `?since=${earlier}`, { 'last-event-id': since });
    const byQuery = await watch({ role: 'viewer' }, `?since=${since}`);
    await beat('heart_1', 83);
    for (const client of [byHeader, byQuery]) {
      await client.hear('device.data.received', (data) => data['value'] === 83);
      expect(values(client)).toEqual([82, 83]);
      expect((await client.hear('replayed')).data['events']).toBe(1);
    }
  });

  it('refuses what it can not read, and who may not', async () => {
    expect(await problem('?colour=red')).toBe('400 validation_failed');
    expect(await problem('?device_ids=a&device_ids=b')).toBe('400 validation_failed');
    expect(await problem('?device_ids=a/b')).toBe('400 validation_failed');
    expect(await problem('?patient_ids=none')).toBe('400 validation_failed');
    const typo = await service.read('/stream?events=device.connected,device.disconected');
    expect({ status: typo.status, ...typo.body }).toMatchObject({
      status: 400,
      code: 'validation_failed',
      errors: [{ field: 'events', message: 'is not a list of up to 1000 types of events' }],
    });
    for (const query of ['events=', 'events=__proto__', 'metric_types=', 'metric_types=spo2,Heart Rate'])
      expect(await problem(`?${query}`)).toBe('400 validation_failed');
    expect(await problem('?since=yesterday')).toBe('400 since_unknown');
    expect(await problem('', { 'last-event-id': '999.1.0.0_x' })).toBe('400 since_unknown');
    expect(await problem('', { authorization: 'Bearer nonsense' })).toBe('401 unauthorized');
    expect((await service.get(`/stream?token=${await service.token()}`)).status).toBe(401);
    const scopeless = `Bearer ${await service.token({ scope: 'readings:read' })}`;
    expect(await problem('', { authorization: scopeless })).toBe('403 insufficient_scope');
    const head = await fetch(`http://127.0.0.1:${service.port}/stream`, {
      method: 'HEAD',
      headers: { authorization: `Bearer ${await service.token()}` },
    });
    expect([head.status, await head.text()]).toEqual([200, '']);
    await untilWatched(1);
  });

  it('has room for so many with one token, and so many in all, WebSockets included', async () => {
    const clients = [];
    for (let index = 0; index < PER_TOKEN; index += 1)
      clients.push(await watch({ role: 'viewer', ward: 'a' }));
    expect((await ask({ role: 'viewer', ward: 'a' })).response.statusCode).toBe(429);
    for (let index = PER_TOKEN + 1; index < TOTAL; index += 1)
      await watch({ role: 'viewer', ward: `${index}` });
    expect((await ask({ role: 'viewer', ward: 'b' })).response.statusCode).toBe(503);
    clients[0]?.end();
    await untilWatched(TOTAL - 1);
    await watch({ role: 'viewer', ward: 'a' });
  });

  it('ends when the token expires, and says so', async () => {
    const short = await watch({ role: 'viewer' }, '', {}, '2s');
    expect((await short.hear('error')).data['code']).toBe('token_expired');
    await short.closed();
  });

  it('ends for a client that does not read, which misses nothing when it comes back, and no other', async () => {
    const slow = await watch({ role: 'viewer' }, '?device_ids=heart_3');
    const quick = await watch({ role: 'viewer', ward: 'quick' }, '?device_ids=heart_3');
    slow.response.pause();
    let sent = 0;
    const samples = Array.from({ length: 10_000 }, (_, index) => Math.sin(index / 10));
    while ((await service.get('/health/detailed')).body.info.websocket.clients === 3) {
      sent += 1;
      const timestamp = new Date(Date.UTC(2024, 1, 1, 0, 0, sent)).toISOString();
      const measured = { metric_type: 'ecg', lead: 'I', sampling_rate: 500, samples, timestamp };
      await device.publishAsync('devices/heart_3/data', JSON.stringify(measured), { qos: 1 });
    }
    slow.response.resume();
    expect((await slow.hear('error')).data['code']).toBe('too_slow');
    await slow.closed();
    await until('all at the quick one', () => waveforms(quick).length === sent);
    const again = await watch({ role: 'viewer' }, '?device_ids=heart_3', {
      'last-event-id': slow.lastEventId,
    });
    await until('the rest', () => waveforms(slow).length + waveforms(again).length === sent);
    expect([...waveforms(slow), ...waveforms(again)]).toEqual(waveforms(quick));
    expect(waveforms(slow).length).toBeLessThan(sent);
  });

  it('writes down who has opened it, and whose data was asked for, before it shows anything', async () => {
    await watch({ role: 'viewer', sub: 'nurse' }, '?device_ids=heart_1&patient_ids=2', {
      'x-request-id': 'ward-7-stream-1',
    });
    const rows = await database.query(
      `SELECT action, actor, device_id, patient_id, outcome FROM audit_log
       WHERE request_id = 'ward-7-stream-1' ORDER BY action, device_id NULLS LAST`,
    );
    expect(rows).toEqual([
      { action: 'openStream', actor: 'nurse', device_id: null, patient_id: null, outcome: 'done' },
      { action: 'subscribeStream', actor: 'nurse', device_id: 'heart_1', patient_id: 1, outcome: 'done' },
      { action: 'subscribeStream', actor: 'nurse', device_id: null, patient_id: 2, outcome: 'done' },
    ]);
  });

  it('says goodbye when the service stops', async () => {
    const client = await watch({ role: 'viewer' });
    const ending = service.end();
    expect((await client.hear('error')).data['code']).toBe('service_stopping');
    await client.closed();
    expect(await ending).toBe(0);
    await service.launch();
    await service.untilReady();
    device = await service.mqtt();
    witness = await service.live(`?token=${await service.token({ role: 'admin', ward: 'witness' })}`);
    await witness.hear('connected');
  });
});
