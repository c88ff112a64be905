import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { MqttClient } from 'mqtt';
import { WebSocket } from 'ws';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type LiveClient, type LiveMessage } from './support/live-client.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

describe('the WebSocket /ws/mqtt', () => {
  let database: TestDatabase;
  let service: Service;
  let device: MqttClient;
  let witness: LiveClient;
  let minute = 0;

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({ DATABASE_URL: database.url, WS_ALLOWED_ORIGINS: 'https://ward.example' });
    device = await service.mqtt();
    await service.register('heart_1', 'ecg_monitor', 1);
    await service.register('heart_2', 'ecg_monitor', 2);
    witness = await service.live(`?token=${await service.token()}`);
    await witness.hear('connected');
  });
  afterAll(async () => {
    witness.end();
    await device.endAsync();
    await service.remove();
    await database.drop();
  });

  /** Publishes a heart rate and waits until it has been streamed. */
  const beat = async (deviceId: string, value: number): Promise<void> => {
    minute += 1;
    const timestamp = new Date(Date.UTC(2024, 0, 1, 0, minute)).toISOString();
    const payload = JSON.stringify({ metric_type: 'heart_rate', value, timestamp });
    await device.publishAsync(`devices/${deviceId}/data`, payload, { qos: 1 });
    await witness.hear('device.data.received', (data) => data['timestamp'] === timestamp);
  };
  const watch = async (claims: Record<string, unknown>): Promise<LiveClient> => {
    const client = await service.live(`?token=${await service.token(claims)}`);
    await client.hear('connected');
    return client;
  };
  const values = (client: LiveClient): unknown[] =>
    client.messages.filter(({ event }) => event === 'device.data.received').map(({ data }) => data['value']);

  it('takes the token from the query, the header or the first message', async () => {
    const token = await service.token({ role: 'viewer' });
    const byQuery = await service.live(`?token=${token}`);
    const byHeader = await service.live('', { authorization: `Bearer ${token}` });
    const byMessage = await service.live();
    byMessage.say({ event: 'authenticate', data: { token } });
    await byMessage.hear('authenticated');
    for (const client of [byQuery, byHeader])
      await client.hear('connected', (data) => data['authenticated'] === true);
    await beat('heart_1', 60);
    for (const client of [byQuery, byHeader, byMessage]) {
      await client.hear('device.data.received', (data) => data['value'] === 60);
      expect(client.messages[0]?.event).toBe('connected');
      client.end();
    }
  });

  it('closes 4401 on a bad token, an expiring one, and none within 5 s', async () => {
    expect(await (await service.live('?token=nonsense')).closed()).toBe(4401);
    expect(await (await service.live('', { authorization: 'Basic YTpi' })).closed()).toBe(4401);
    const wrong = await service.live();
    wrong.say({ event: 'authenticate', data: { token: 'nonsense' } });
    expect(await wrong.closed()).toBe(4401);
    const short = await service.live(`?token=${await service.token({ role: 'viewer' }, '2s')}`);
    await short.hear('connected');
    const silent = await service.live();
    await beat('heart_1', 61);
    expect(await short.closed()).toBe(4401);
    expect(await silent.closed()).toBe(4401);
    expect(values(silent)).toEqual([]);
  });

  it('refuses a foreign Origin, and lets the configured and its own in', async () => {
    const query = `?token=${await service.token()}`;
    const open = (origin: string): Promise<LiveClient> => service.live(query, { origin });
    await expect(open('https://evil.example')).rejects.toThrow('403');
    await expect(open('null')).rejects.toThrow('403');
    for (const origin of ['https://ward.example', `http://127.0.0.1:${service.port}`])
      (await open(origin)).end();
  });

  it('shows a patient only what is theirs, and refuses a token without the scope', async () => {
    const patient = await watch({ role: 'patient', patient_id: 2 });
    const everyone = await watch({ role: 'viewer' });
    await beat('heart_1', 71);
    await beat('heart_2', 72);
    await patient.hear('device.data.received', (data) => data['value'] === 72);
    await until('both at the other', () => values(everyone).length === 2);
    expect(values(patient)).toEqual([72]);
    const scopeless = await service.live(`?token=${await service.token({ scope: 'readings:read' })}`);
    expect((await scopeless.hear('error')).data['code']).toBe('insufficient_scope');
    await scopeless.closed();
    patient.end();
    everyone.end();
  });

  it('tells by the rights of the token that counts now, whatever differs', async () => {
    const changes: readonly (readonly [from: object, to: object, told: readonly string[]])[] = [
      [{ role: 'admin' }, { role: 'viewer' }, ['device.data.received']],
      [{ role: 'viewer' }, { role: 'clinician' }, ['command.queued', 'device.data.received']],
      [{ role: 'viewer' }, { role: 'admin' }, ['command.queued', 'message.rejected', 'device.data.received']],
      [{ role: 'admin' }, { role: 'admin', patient_id: 2 }, ['command.queued', 'device.data.received']],
      [{ role: 'admin' }, { role: 'admin', patient_id: 1 }, []],
      [{ role: 'admin' }, { role: 'admin', tenant: 'north' }, []],
      // The same rights by another token.
      [{ role: 'viewer', sub: 'a' }, { role: 'viewer', sub: 'b' }, ['device.data.received']],
    ];
    const clients = await Promise.all(
      changes.map(async ([from, to]) => {
        const client = await watch({ ...from });
        client.say({ event: 'subscribe', data: { device_ids: ['heart_2'] } });
        await client.hear('subscribed');
        client.say({ event: 'authenticate', data: { token: await service.token({ ...to }) } });
        await client.hear('authenticated');
        return client;
      }),
    );
    const of = (data: LiveMessage['data']): boolean => data['device_id'] === 'heart_2';
    await service.post('/devices/heart_2/command', { command: 'identify' });
    await witness.hear('command.queued', of);
    await device.publishAsync('devices/heart_2/data', '{nonsense', { qos: 1 });
    await witness.hear('message.rejected', of);
    await beat('heart_2', 75);
    for (const client of clients) client.say({ event: 'ping' });
    for (const client of clients) await client.hear('pong');
    const kinds = ['command.queued', 'message.rejected', 'device.data.received'];
    const heard = clients.map(({ messages }) =>
      messages.map(({ event }) => event).filter((event) => kinds.includes(event)),
    );
    expect(heard).toEqual(changes.map(([, , told]) => told));
    for (const client of clients) client.end();
  });

  it('loses nothing of what is kept back for the first word when another token comes', async () => {
    const client = await watch({ role: 'viewer' });
    await beat('heart_2', 76);
    client.say({ event: 'authenticate', data: { token: await service.token({ role: 'admin' }) } });
    await client.hear('authenticated');
    await beat('heart_2', 77);
    client.say({ event: 'ping' });
    await client.hear('device.data.received', (data) => data['value'] === 77);
    expect(values(client)).toEqual([76, 77]);
    client.end();
  });

  it('narrows by subscription', async () => {
    const client = await watch({ role: 'viewer' });
    client.say({ event: 'subscribe', data: { device_ids: ['heart_2'], events: ['device.data.received'] } });
    await client.hear('subscribed');
    await beat('heart_1', 81);
    await beat('heart_2', 82);
    await client.hear('device.data.received', (data) => data['value'] === 82);
    client.say({ event: 'unsubscribe' });
    await client.hear('unsubscribed');
    await beat('heart_2', 83);
    client.say({ event: 'subscribe', data: { metric_types: ['glucose'], patient_ids: [2] } });
    client.say({ event: 'ping' });
    await client.hear('pong');
    await beat('heart_2', 84);
    client.say({ event: 'subscribe' });
    await until(
      'the subscription',
      () => client.messages.filter(({ event }) => event === 'subscribed').length === 3,
    );
    await beat('heart_2', 85);
    await client.hear('device.data.received', (data) => data['value'] === 85);
    expect(values(client)).toEqual([82, 85]);
    client.end();
  });

  it('answers what it does not understand, and goes on', async () => {
    const client = await watch({ role: 'viewer' });
    const cases: readonly (readonly [message: string, code: string])[] = [
      ['{', 'invalid_json'],
      ['[]', 'invalid_message'],
      ['{"event":7}', 'invalid_message'],
      ['{"event":"dance"}', 'unknown_event'],
      ['{"event":"subscribe","data":{"device_ids":"heart_1"}}', 'invalid_message'],
      ['{"event":"subscribe","data":{"colour":"red"}}', 'invalid_message'],
      ['{"event":"subscribe","data":{"events":["device.data.recieved"]}}', 'invalid_message'],
      ['{"event":"subscribe","data":{"metric_types":["heart rate"]}}', 'invalid_message'],
      ['{"event":"subscribe","data":{"__proto__":{"x":1}}}', 'invalid_message'],
      [`{"event":"subscribe","data":${'['.repeat(1_000)}${']'.repeat(1_000)}}`, 'invalid_message'],
    ];
    for (const [message] of cases) client.say(message);
    client.say({ event: 'ping' });
    await client.hear('pong');
    const codes = client.messages.filter(({ event }) => event === 'error').map(({ data }) => data['code']);
    expect(codes).toEqual(cases.map(([, code]) => code));
    const named = client.messages.find(({ data }) => 'errors' in data);
    expect(named?.data).toMatchObject({
      message: 'data.device_ids is not a list of up to 1000 ids of devices.',
      errors: [{ field: 'device_ids', message: 'is not a list of up to 1000 ids of devices' }],
    });
    client.socket.send(Buffer.alloc(65_537), { binary: false });
    expect(await client.closed()).toBe(1009);
  });

  it('takes messages that follow the handshake at once', async () => {
    const token = await service.token({ role: 'viewer' });
    const socket = new WebSocket(`ws://127.0.0.1:${service.port}/ws/mqtt`);
    const answers: string[] = [];
    socket.on('message', (data: Buffer) =>
      answers.push((JSON.parse(data.toString('utf8')) as { event: string }).event),
    );
    socket.on('open', () => {
      socket.send(JSON.stringify({ event: 'authenticate', data: { token } }));
      socket.send(JSON.stringify({ event: 'subscribe', data: { device_ids: ['heart_1'] } }));
      socket.send(JSON.stringify({ event: 'ping' }));
    });
    await until('the answers', () => answers.length === 4);
    expect(answers).toEqual(['connected', 'authenticated', 'subscribed', 'pong']);
    socket.terminate();
  });

  it('closes a client that does not read with 1013, and no other', async () => {
    const slow = await watch({ role: 'viewer' });
    const quick = await watch({ role: 'viewer' });
    // Whoever has said something is told at once.
    for (const client of [slow, quick]) {
      client.say({ event: 'ping' });
      await client.hear('pong');
    }
    slow.socket.pause();
    const samples = Array.from({ length: 10_000 }, (_, index) => Math.sin(index / 10));
    let sent = 0;
    const flood = async (): Promise<void> => {
      sent += 1;
      const timestamp = new Date(Date.UTC(2024, 1, 1, 0, 0, sent)).toISOString();
      const payload = JSON.stringify({
        metric_type: 'ecg',
        lead: 'I',
        sampling_rate: 500,
        samples,
        timestamp,
      });
      await device.publishAsync('devices/heart_1/data', payload, { qos: 1 });
    };
    while ((await service.get('/health/detailed')).body.info.websocket.clients === 3) await flood();
    slow.socket.resume();
    expect(await slow.closed()).toBe(1013);
    await until(
      'all at the quick one',
      () => quick.messages.filter(({ data }) => data['metric_type'] === 'ecg').length === sent,
    );
    quick.end();
  });
});

describe('the WebSocket with WS_COMPRESSION', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
  });
  afterAll(() => database.drop());

  it.each([
    ['true', 'permessage-deflate'],
    ['false', ''],
  ])('%s compresses what is large for those who ask for it, and nothing else', async (setting, agreed) => {
    const service = await Service.start({ DATABASE_URL: database.url, WS_COMPRESSION: setting });
    const device = await service.mqtt();
    await service.register('heart_1', 'ecg_monitor', 1);
    const url = `ws://127.0.0.1:${service.port}/ws/mqtt?token=${await service.token()}`;
    const offers = [true, false, { serverMaxWindowBits: 9 }];
    const heard = await Promise.all(
      offers.map(async (perMessageDeflate) => {
        const socket = new WebSocket(url, { perMessageDeflate });
        const opened = once(socket, 'upgrade') as Promise<[IncomingMessage]>;
        const texts: string[] = [];
        socket.on('message', (data: Buffer) => texts.push(data.toString('utf8')));
        const [{ socket: connection }] = await opened;
        await until('the greeting', () => texts.length > 0);
        return { socket, texts, connection };
      }),
    );
    const samples = Array.from({ length: 5_000 }, (_, index) => index % 7);
    const measured = { metric_type: 'ecg', lead: 'I', sampling_rate: 500, samples, unit: 'uV' };
    for (let sent = 0; sent < 3; sent += 1)
      await device.publishAsync('devices/heart_1/data', JSON.stringify(measured), { qos: 1 });
    const waveforms = ({ texts }: { readonly texts: readonly string[] }): string[] =>
      texts.filter((text) => text.includes('"samples"'));
    await until('all of it', () => heard.every((each) => waveforms(each).length === 3));
    const [asked, plain] = heard;
    for (const each of heard) expect(waveforms(each)).toEqual(waveforms(heard[0] as typeof each));
    expect(heard.map(({ socket }) => socket.extensions.split(';')[0])).toEqual([agreed, '', agreed]);
    const size = waveforms(plain as (typeof heard)[number]).join('').length;
    expect(plain?.connection.bytesRead).toBeGreaterThan(size);
    if (setting === 'true') expect(asked?.connection.bytesRead).toBeLessThan(size / 5);
    for (const { socket } of heard) socket.terminate();
    await device.endAsync();
    await service.remove();
  });
});
