import type { MqttClient } from 'mqtt';
import { WebSocket } from 'ws';
import { brokersHere, startBroker, type BrokerUnderTest } from './support/brokers.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { EventSourceClient } from './support/event-source.js';
import type { LiveClient, LiveMessage } from './support/live-client.js';
import { randomFrom } from './support/random.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const DEVICES = ['heart_0', 'heart_1', 'heart_2', 'heart_3'];
const told = ({ messages }: LiveClient): LiveMessage[] => messages.filter(({ id }) => id !== undefined);

/** A client that is cut off again and again, and goes on from the last id it has read. */
interface Follower {
  readonly read: readonly LiveMessage[];
  readonly errors: readonly unknown[];
  readonly cuts: number;
  connect(): void;
  end(): void;
}

class SocketFollower implements Follower {
  readonly read: LiveMessage[] = [];
  readonly errors: unknown[] = [];
  cuts = 0;
  private socket: WebSocket | undefined;

  /** @param toRead how many messages it is to read before it is cut off again. */
  constructor(
    private readonly url: string,
    private since: string,
    private readonly inHandshake: () => boolean,
    private readonly toRead: () => number,
  ) {}

  connect(): void {
    const ahead = this.inHandshake();
    const socket = new WebSocket(ahead ? `${this.url}&since=${this.since}` : this.url);
    this.socket = socket;
    let left = this.toRead();
    socket.on('open', () => {
      if (!ahead) socket.send(JSON.stringify({ event: 'subscribe', data: { since: this.since } }));
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      if (this.socket === socket) this.connect();
    });
    socket.on('message', (data: Buffer) => {
      const message = JSON.parse(data.toString('utf8')) as LiveMessage;
      if (message.event === 'error') this.errors.push(message.data);
      // What is read after the cut was never read.
      if (left === 0 || message.id === undefined) return;
      this.read.push(message);
      this.since = message.id;
      left -= 1;
      if (left > 0) return;
      this.cuts += 1;
      socket.terminate();
    });
  }

  end(): void {
    const { socket } = this;
    this.socket = undefined;
    socket?.terminate();
  }
}

/** The same over HTTP, as a browser does it: by Last-Event-ID. */
class EventSourceFollower implements Follower {
  readonly read: LiveMessage[] = [];
  readonly errors: unknown[] = [];
  cuts = 0;
  private isOver = false;
  private client: EventSourceClient | undefined;

  /** @param toRead how many events it is to read before it is cut off again. */
  constructor(
    private readonly port: number,
    private readonly token: string,
    private since: string,
    private readonly toRead: () => number,
  ) {}

  connect(): void {
    void this.follow();
  }

  end(): void {
    this.isOver = true;
    this.client?.end();
  }

  private ended(): boolean {
    return this.isOver;
  }

  private async follow(): Promise<void> {
    while (!this.ended()) {
      let left = this.toRead();
      const headers = { authorization: `Bearer ${this.token}`, 'last-event-id': this.since };
      const client = await EventSourceClient.open(this.port, '', headers, (message) => {
        // So little may wait for it that it is given up under load; it comes back as after any other end.
        if (message.event === 'error' && message.data['code'] !== 'too_slow') this.errors.push(message.data);
        if (message.id === undefined) return;
        this.read.push(message);
        left -= 1;
        if (left > 0) return;
        this.cuts += 1;
        client.end();
      });
      this.client = client;
      if (client.response.statusCode !== 200) this.errors.push(client.response.statusCode);
      await client.closed();
      this.since = client.lastEventId || this.since;
    }
  }
}

describe.each(brokersHere())('a client that comes back to the stream, with the broker %s', (kind) => {
  let database: TestDatabase;
  let broker: BrokerUnderTest;
  let service: Service;
  let device: MqttClient;
  let witness: LiveClient;

  beforeAll(async () => {
    database = await createDatabase();
    broker = await startBroker(kind);
    // So little is kept back for it that a replay under load has to begin anew.
    service = await Service.start({ DATABASE_URL: database.url, ...broker.env, WS_MAX_BUFFER: '40000' });
    device = await service.mqtt();
    for (const id of DEVICES) await service.register(id, 'ecg_monitor', 1);
    witness = await service.live(`?token=${await service.token()}`);
    await witness.hear('connected');
  });
  afterAll(async () => {
    witness.end();
    await device.endAsync();
    await service.remove();
    await broker.stop();
    await database.drop();
  });

  it('is told each event once, in the order of its device, wherever it was cut off', async () => {
    const random = randomFrom(kind.length);
    const below = (limit: number): number => Math.floor(random() * limit);
    const { data } = await witness.hear('connected');
    const url = `ws://127.0.0.1:${service.port}/ws/mqtt?token=${await service.token()}`;
    const begun = String(data['last_id']);
    const toRead = (): number => 1 + below(400);
    const token = await service.token();
    const followers: readonly Follower[] = [1, 2].flatMap(() => [
      new SocketFollower(url, begun, () => below(2) === 0, toRead),
      new EventSourceFollower(service.port, token, begun, toRead),
    ]);
    for (const follower of followers) follower.connect();
    const LOTS = 60;
    const LOT = 100;
    const sent = new Map(DEVICES.map((id) => [id, [] as number[]]));
    for (let lot = 0; lot < LOTS; lot += 1) {
      const published = Array.from({ length: LOT }, () => {
        const id = DEVICES[below(DEVICES.length)] ?? '';
        const numbers = sent.get(id) ?? [];
        numbers.push(numbers.length);
        const payload = { metric_type: 'heart_rate', heart_rate: 60, number: numbers.length - 1 };
        return device.publishAsync(`devices/${id}/data`, JSON.stringify(payload), { qos: 1 });
      });
      await Promise.all(published);
    }
    const numbersOf = (messages: readonly LiveMessage[], id: string): unknown[] =>
      messages
        .filter(({ event, data: { device_id } }) => event === 'device.data.received' && device_id === id)
        .map(({ data: { number } }) => number);
    const count = (messages: readonly LiveMessage[]): number =>
      messages.filter(({ event }) => event === 'device.data.received').length;
    try {
      await until('all to be read', () => followers.every(({ read }) => count(read) >= LOTS * LOT));
    } finally {
      for (const follower of followers) follower.end();
    }
    for (const follower of followers) {
      for (const [id, numbers] of sent) expect(numbersOf(follower.read, id)).toEqual(numbers);
      expect(follower.cuts).toBeGreaterThan(10);
      expect(follower.errors).toEqual([]);
    }
  });
});

describe('the resumed stream', () => {
  let database: TestDatabase;
  let service: Service;
  let device: MqttClient;
  let witness: LiveClient;
  let start: string;
  const clients: LiveClient[] = [];

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({ DATABASE_URL: database.url });
    device = await service.mqtt();
    witness = await service.live(`?token=${await service.token()}`);
    start = String((await witness.hear('connected')).data['last_id']);
  });
  afterEach(() => clients.splice(0).forEach((client) => client.end()));
  afterAll(async () => {
    witness.end();
    await device.endAsync();
    await service.remove();
    await database.drop();
  });

  const resume = async (claims: Record<string, unknown>, data: object): Promise<LiveClient> => {
    const client = await service.live(`?token=${await service.token(claims)}`);
    clients.push(client);
    client.say({ event: 'subscribe', data });
    return client;
  };
  const replayed = async (claims: Record<string, unknown>, data: object): Promise<LiveMessage[]> => {
    const client = await resume(claims, data);
    const { data: outcome } = await client.hear('replayed');
    expect(outcome['events']).toBe(told(client).length);
    return told(client);
  };
  const say = (id: string, topic: string, payload: object): Promise<unknown> =>
    device.publishAsync(`devices/${id}/${topic}`, JSON.stringify(payload), { qos: 1 });
  const measured = (value: number) => (data: Record<string, unknown>) => data['heart_rate'] === value;

  it('tells of everything as it was told live: order, ids and content', async () => {
    await service.register('ecg_1', 'ecg_monitor', 1);
    await service.register('pressure_1', 'blood_pressure_monitor', 2);
    const timestamp = '2024-01-23T10:30:00Z';
    await say('ecg_1', 'status', { status: 'online', battery: 80 });
    await say('ecg_1', 'data', { metric_type: 'heart_rate', heart_rate: 61, ward: 'Sü"d', deep: { a: [1] } });
    await say('ecg_1', 'data', {
      metric_type: 'ecg',
      lead: 'I',
      sampling_rate: 500,
      unit: 'uV',
      samples: [1, 2, 3],
      timestamp,
    });
    await say('pressure_1', 'data', {
      note: 'buffered',
      readings: [
        { metric_type: 'blood_pressure', systolic: 16, diastolic: 10, unit: 'kPa', timestamp },
        { metric_type: 'heart_rate', pulse: 70, timestamp },
      ],
    });
    await say('pressure_1', 'data', { metric_type: 'blood_pressure', systolic: 'high' });
    await say('nobody_1', 'data', { metric_type: 'heart_rate', heart_rate: 60 });
    await service.post('/devices/ecg_1/command', { command: 'identify' });
    await service.patch('/devices/ecg_1', { model: 'M2' });
    await say('ecg_1', 'data', { metric_type: 'heart_rate', heart_rate: 62 });
    await witness.hear('device.data.received', measured(62));
    for (const event of ['command.sent', 'device.updated']) await witness.hear(event);
    for (const id of ['ecg_1', 'pressure_1'])
      await witness.hear('device.connected', (data) => data['device_id'] === id);
    const live = told(witness);
    expect(new Set(live.map(({ event }) => event)).size).toBeGreaterThan(6);
    expect(await replayed({ role: 'admin' }, { since: start })).toEqual(live);
    // From anywhere: also between the two measurements of one message.
    for (let read = 1; read <= live.length; read += 1) {
      const since = live[read - 1]?.id;
      expect(await replayed({ role: 'admin' }, { since })).toEqual(live.slice(read));
    }
    // Filters.
    const of = (passes: (message: LiveMessage) => boolean): string[] =>
      live.filter(passes).map(({ id }) => String(id));
    const wishes: readonly (readonly [object, (message: LiveMessage) => boolean])[] = [
      [{ device_ids: ['pressure_1'] }, ({ data }) => data['device_id'] === 'pressure_1'],
      [{ patient_ids: [1] }, ({ data }) => data['patient_id'] === 1],
      [{ events: ['message.rejected'] }, ({ event }) => event === 'message.rejected'],
      [
        { events: ['device.data.received'], metric_types: ['systolic'] },
        ({ event, data }) => event === 'device.data.received' && data['metric_type'] === 'blood_pressure',
      ],
    ];
    for (const [wish, passes] of wishes) {
      const ids = (await replayed({ role: 'admin' }, { ...wish, since: start })).map(({ id }) => id);
      expect(ids).toEqual(of(passes));
      expect(ids).not.toEqual([]);
    }
  });

  it('shows nobody more than live: each patient what was theirs then, and another tenant nothing', async () => {
    await service.register('given_1', 'ecg_monitor', 11);
    await say('given_1', 'data', { metric_type: 'heart_rate', heart_rate: 71 });
    const { time } = await witness.hear('device.data.received', measured(71));
    await service.patch('/devices/given_1', { patient_id: 12 });
    await say('given_1', 'data', { metric_type: 'heart_rate', heart_rate: 72 });
    await witness.hear('device.data.received', measured(72));
    // Comes late, and was measured before: whose it was is not known any more.
    await say('given_1', 'data', { metric_type: 'heart_rate', heart_rate: 73, timestamp: time });
    await witness.hear('device.data.received', measured(73));
    const seen = async (claims: Record<string, unknown>): Promise<unknown[]> =>
      (
        await replayed(claims, { since: start, device_ids: ['given_1'], events: ['device.data.received'] })
      ).map(({ data }) => data['heart_rate']);
    expect(await seen({ role: 'viewer' })).toEqual([71, 72, 73]);
    expect(await seen({ role: 'patient', patient_id: 11 })).toEqual([71]);
    expect(await seen({ role: 'patient', patient_id: 12 })).toEqual([72]);
    expect(await seen({ role: 'admin', tenant: 'north' })).toEqual([]);
    await service.post('/devices/given_1/command', { command: 'identify' });
    await say('given_1', 'data', { metric_type: 'heart_rate', heart_rate: 'high' });
    for (const event of ['command.queued', 'message.rejected'])
      await witness.hear(event, (data) => data['device_id'] === 'given_1');
    const kinds = async (claims: Record<string, unknown>): Promise<string[]> => {
      const messages = await replayed(claims, { since: start, device_ids: ['given_1'] });
      return ['command.queued', 'message.rejected'].filter((kind) =>
        messages.some(({ event }) => event === kind),
      );
    };
    expect(await kinds({ role: 'admin' })).toEqual(['command.queued', 'message.rejected']);
    expect(await kinds({ role: 'clinician' })).toEqual(['command.queued']);
    expect(await kinds({ role: 'viewer' })).toEqual([]);
  });

  it('refuses what it can not go on from, says why, and tells nothing before the client asks anew', async () => {
    const cases: readonly (readonly [since: unknown, code: string])[] = [
      ['yesterday', 'since_unknown'],
      ['', 'since_unknown'],
      ['999.1.0.0', 'since_unknown'],
      [`${start.split('.')[0]}.999999.0.0`, 'since_unknown'],
      [7, 'invalid_message'],
    ];
    const client = await service.live(`?token=${await service.token()}`);
    clients.push(client);
    await client.hear('connected');
    for (const [since] of cases) client.say({ event: 'subscribe', data: { since } });
    await until(
      'the answers',
      () => client.messages.filter(({ event }) => event === 'error').length === cases.length,
    );
    const errors = client.messages.filter(({ event }) => event === 'error');
    expect(errors.map(({ data }) => data['code'])).toEqual(cases.map(([, code]) => code));
    expect(String(errors[0]?.data['message'])).toContain('Go on without it');
    const ask = async (word: object, answer: string): Promise<void> => {
      client.say(word);
      await client.hear(answer);
    };
    const registered = async (id: string): Promise<void> => {
      await service.register(id, 'ecg_monitor', 1);
      await witness.hear('device.registered', (data) => data['device_id'] === id);
    };
    // It would go on past what it has missed: also after a sign of life, and with a new token.
    await registered('left_1');
    await ask({ event: 'ping' }, 'pong');
    await ask(
      { event: 'authenticate', data: { token: await service.token({ role: 'clinician' }) } },
      'authenticated',
    );
    await registered('left_2');
    await ask({ event: 'subscribe' }, 'subscribed');
    await registered('left_3');
    await client.hear('device.registered', (data) => data['device_id'] === 'left_3');
    expect(told(client).map(({ data }) => data['device_id'])).toEqual(['left_3']);
    const ahead = await service.live(`?token=${await service.token()}&since=nonsense`);
    clients.push(ahead);
    expect((await ahead.hear('error')).data['code']).toBe('since_unknown');
  });

  it('goes on over a restart of the service, and says so when what was missed is gone', async () => {
    await service.register('lasting_1', 'ecg_monitor', 1);
    const before = await witness.hear('device.registered', (data) => data['device_id'] === 'lasting_1');
    await say('lasting_1', 'data', { metric_type: 'heart_rate', heart_rate: 81 });
    await witness.hear('device.data.received', measured(81));
    const restart = async (): Promise<void> => {
      await device.endAsync();
      await service.end('SIGKILL');
      await service.launch();
      await service.untilReady();
      device = await service.mqtt();
    };
    await restart();
    await service.register('lasting_2', 'ecg_monitor', 1);
    await say('lasting_1', 'data', { metric_type: 'heart_rate', heart_rate: 82 });
    const client = await resume(
      { role: 'admin' },
      { since: before.id, device_ids: ['lasting_1', 'lasting_2'] },
    );
    await client.hear('device.data.received', measured(82));
    expect(
      told(client)
        .filter(({ event }) => event === 'device.data.received')
        .map(({ data }) => data['heart_rate']),
    ).toEqual([81, 82]);
    expect(told(client).map(({ event }) => event)).toContain('device.registered');
    const { data: last } = await (await resume({ role: 'admin' }, {})).hear('connected');
    const [epoch, place, , other] = String(last['last_id']).split('.').map(Number);
    await database.query(
      `UPDATE stream_log SET at = at - INTERVAL '1 day'
       WHERE epoch < ${epoch} OR (place <= ${place} AND other <= ${other})`,
    );
    await restart();
    await until('the old to be deleted', async () => {
      const old = await database.query(`SELECT FROM stream_log WHERE at < now() - INTERVAL '12 hours'`);
      return old.length === 0;
    });
    const late = await resume({ role: 'admin' }, { since: before.id });
    expect((await late.hear('error')).data['code']).toBe('since_too_old');
    // Whoever had read all of it has missed nothing.
    expect(
      await replayed({ role: 'admin' }, { since: last['last_id'], events: ['device.data.received'] }),
    ).toEqual([]);
  });
});
