import { join } from 'node:path';
import type { MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from './support/database.js';
import { nameOf, type LiveClient, type LiveMessage } from './support/live-client.js';
import { Mosquitto } from './support/mosquitto.js';
import { randomFrom } from './support/random.js';
import { Roamer } from './support/roamer.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed)
  process.stderr.write('The stream of replicas not tested: Mosquitto is not installed\n');

const DEVICES = Array.from({ length: 6 }, (_, index) => `heart_${index}`);
const placeOf = (id: string): number => Number(id.split('.')[1]);
const epochOf = ({ id = '' }: LiveMessage): string => id.slice(0, id.indexOf('.'));
const detailsOf = async (replica: Service): Promise<Record<string, Record<string, unknown>>> =>
  (await replica.get('/health/detailed')).body.details;

/** Devices that send all the time. Of each, the messages are numbered, and every other one has a date. */
class Load {
  /** How many messages each device has sent. */
  readonly sent = new Map(DEVICES.map((id) => [id, 0]));
  private timer: NodeJS.Timeout | undefined;
  private readonly publishes: Promise<unknown>[] = [];

  constructor(private readonly client: MqttClient) {}

  get total(): number {
    return [...this.sent.values()].reduce((sum, count) => sum + count);
  }

  /** 600 messages a second. */
  start(): void {
    this.timer = setInterval(() => this.publish(12), 20);
  }

  /** Resolves when the broker has acknowledged all. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    await Promise.all(this.publishes);
  }

  /** @param mark stands in the last of them. */
  publish(count: number, mark?: string): void {
    for (let each = 1; each <= count; each += 1) {
      const id = DEVICES[this.total % DEVICES.length] ?? '';
      const number = this.sent.get(id) ?? 0;
      this.sent.set(id, number + 1);
      const payload = {
        metric_type: 'heart_rate',
        heart_rate: 60 + (number % 100),
        number,
        ...(each === count && { mark }),
        ...(number % 2 === 0 && { timestamp: new Date(Date.UTC(2024, 0, 1) + number * 1_000).toISOString() }),
      };
      this.publishes.push(
        this.client.publishAsync(`devices/${id}/data`, JSON.stringify(payload), { qos: 1 }),
      );
    }
  }

  async untilMore(count: number): Promise<void> {
    const before = this.total;
    await until(`${count} more messages`, () => this.total >= before + count);
  }

  /** Resolves when a client has read as many measurements as were sent. */
  async untilReadBy(...roamers: readonly Roamer[]): Promise<void> {
    const { total } = this;
    for (const roamer of roamers)
      await until(
        `${total} measurements, of which it has ${read(roamer)}`,
        () => read(roamer) >= total,
        60_000,
      );
  }
}

const read = (roamer: Roamer): number => DEVICES.reduce((sum, id) => sum + roamer.measured(id).length, 0);

const expectOnce = (load: Load, roamer: Roamer): void => {
  expect(roamer.errors).toEqual([]);
  for (const [id, count] of load.sent) {
    const numbers = roamer.numbersOf(id) as number[];
    expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, number) => number));
  }
  const names = roamer.read.map(({ event, ...message }) => `${event} ${nameOf({ event, ...message })}`);
  expect(names.length - new Set(names).size).toBe(0);
};

const expectOnceInOrder = (load: Load, roamer: Roamer): void => {
  expectOnce(load, roamer);
  for (const [id, count] of load.sent)
    expect(roamer.numbersOf(id)).toEqual(Array.from({ length: count }, (_, number) => number));
};

class Ward {
  replicas: Service[] = [];
  roamers: Roamer[] = [];
  load!: Load;
  token = '';
  private device!: MqttClient;

  private constructor(
    readonly database: TestDatabase,
    readonly mosquitto: Mosquitto,
    private readonly env: (number: number) => Record<string, string>,
  ) {}

  /**
   * Three replicas; of those that take turns, the first has the session.
   * @param env what each has of its own.
   * @param wayOfFirst how the first gets to the database.
   * @param count where there are to be fewer at first.
   */
  static async open(
    env: (number: number) => Record<string, string> = () => ({}),
    wayOfFirst = (url: string): Promise<string> => Promise.resolve(url),
    count = 3,
  ): Promise<Ward> {
    const [database, mosquitto] = await Promise.all([createDatabase(), Mosquitto.prepare()]);
    await mosquitto.start();
    const ward = new Ward(database, mosquitto, env);
    const first = await ward.join(1, await wayOfFirst(database.url));
    await until('the session', async () => (await detailsOf(first))['mqtt']?.['connected'] === true);
    await Promise.all([2, 3].slice(0, count - 1).map((number) => ward.join(number)));
    for (const id of DEVICES) await first.register(id, 'ecg_monitor', 1);
    ward.device = await first.mqtt();
    ward.load = new Load(ward.device);
    ward.token = await first.token();
    return ward;
  }

  async join(number: number, url = this.database.url): Promise<Service> {
    const replica = await Service.start({ DATABASE_URL: url, ...this.mosquitto.env, ...this.env(number) });
    this.replicas.push(replica);
    return replica;
  }

  addressOf(replica: Service): string {
    return `ws://127.0.0.1:${replica.port}/ws/mqtt?token=${this.token}`;
  }

  /** A client that watches at this replica, and at another when it is gone. */
  async watcherAt(replica: Service): Promise<Roamer> {
    let at = this.replicas.indexOf(replica);
    const roamer = await Roamer.start(() => {
      const next = this.replicas[at % this.replicas.length] as Service;
      at += 1;
      return this.addressOf(next);
    });
    this.roamers.push(roamer);
    return roamer;
  }

  async close(): Promise<void> {
    await this.load.stop();
    for (const roamer of this.roamers) roamer.end();
    await this.device.endAsync();
    await Promise.all(this.replicas.map((replica) => replica.remove()));
    await this.mosquitto.remove();
    await this.database.drop();
  }
}

describeWithMosquitto('the stream of three replicas, of which one takes in', () => {
  let ward: Ward;
  let watchers: readonly Roamer[];

  const active = (): Promise<Service> =>
    until('an active replica', async () => {
      for (const replica of ward.replicas) {
        const details = await detailsOf(replica).catch(() => undefined);
        if (details?.['mqtt']?.['connected'] === true) return replica;
      }
      return undefined;
    });

  beforeAll(async () => {
    ward = await Ward.open();
    watchers = await Promise.all(ward.replicas.map((replica) => ward.watcherAt(replica)));
  });
  afterAll(() => ward.close());

  it('tells every event once, in the order of its device, whichever replica took it in', async () => {
    const { load } = ward;
    load.start();
    await load.untilMore(2_000);
    await load.stop();
    await load.untilReadBy(...watchers);
    for (const watcher of watchers) {
      expectOnceInOrder(load, watcher);
      expect(watcher.moves).toBe(0);
    }
  });

  it('tells of commands and the registry at all replicas, also of those that came to another', async () => {
    const [, second] = ward.replicas as [Service, Service];
    await second.register('scale_1', 'weight_scale', 2);
    expect((await second.post('/devices/scale_1/command', { command: 'identify' })).status).toBe(202);
    for (const watcher of watchers) {
      const kinds = (): string[] =>
        watcher.read.filter(({ data }) => data['device_id'] === 'scale_1').map(({ event }) => event);
      await until('the command', () => kinds().includes('command.queued'));
      expect(kinds()).toEqual(['device.registered', 'command.queued']);
    }
  });

  it('tells nobody more than where it was taken in: each patient what was theirs then', async () => {
    const [first, second, third] = ward.replicas as [Service, Service, Service];
    await first.register('given_1', 'ecg_monitor', 11);
    const clients: LiveClient[] = [];
    const seenBy = async (claims: Record<string, unknown>): Promise<LiveClient[]> => {
      const opened = await Promise.all(
        [first, second, third].map(async (at) => at.live(`?token=${await at.token(claims)}`)),
      );
      for (const client of opened) await client.hear('connected');
      clients.push(...opened);
      return opened;
    };
    const all = await seenBy({ role: 'viewer' });
    const before = await seenBy({ role: 'patient', patient_id: 11 });
    const after = await seenBy({ role: 'patient', patient_id: 12 });
    const stranger = await seenBy({ role: 'admin', tenant: 'north' });
    const device = await first.mqtt();
    const measure = async (value: number): Promise<void> => {
      const payload = JSON.stringify({ metric_type: 'heart_rate', heart_rate: value });
      await device.publishAsync('devices/given_1/data', payload, { qos: 1 });
      for (const client of all)
        await client.hear('device.data.received', (data) => data['heart_rate'] === value);
    };
    await measure(71);
    await second.patch('/devices/given_1', { patient_id: 12 });
    for (const client of all) await client.hear('device.updated');
    await measure(72);
    await device.endAsync();
    const rates = ({ messages }: LiveClient): unknown[] =>
      messages.filter(({ event }) => event === 'device.data.received').map(({ data }) => data['heart_rate']);
    for (const client of before) expect(rates(client)).toEqual([71]);
    for (const client of after) {
      await client.hear('device.data.received', (data) => data['heart_rate'] === 72);
      expect(rates(client)).toEqual([72]);
    }
    for (const client of stranger) expect(rates(client)).toEqual([]);
    for (const client of clients) client.end();
  });

  it.each([1, 2])(
    'misses and doubles nothing when the one that takes in is killed, nor do its clients at another (%s)',
    async () => {
      const { load } = ward;
      load.start();
      await load.untilMore(600);
      const killed = await active();
      const moved = watchers.map(({ moves }) => moves);
      await killed.end('SIGKILL');
      await load.untilMore(1_200);
      await load.stop();
      await load.untilReadBy(...watchers);
      for (const watcher of watchers) expectOnceInOrder(load, watcher);
      expect(watchers.some(({ moves }, index) => moves > (moved[index] ?? 0))).toBe(true);
      await killed.launch();
      await killed.untilReady();
    },
  );

  it('misses and doubles nothing for clients that go from one to another all the time', async () => {
    const random = randomFrom(6);
    const below = (limit: number): number => Math.floor(random() * limit);
    const { load, replicas } = ward;
    const [before] = watchers as [Roamer];
    await load.untilReadBy(before);
    const begun = new Map(load.sent);
    const roamers = await Promise.all(
      [1, 2, 3, 4].map(() =>
        Roamer.start(
          () => ward.addressOf(replicas[below(replicas.length)] as Service),
          () => 1 + below(300),
        ),
      ),
    );
    ward.roamers.push(...roamers);
    load.start();
    await load.untilMore(2_000);
    const killed = await active();
    await killed.end('SIGKILL');
    await load.untilMore(1_500);
    await killed.launch();
    await load.untilMore(1_000);
    await load.stop();
    await load.untilReadBy(...watchers);
    for (const roamer of roamers) {
      for (const [id, count] of load.sent) {
        const from = begun.get(id) ?? 0;
        const numbers = Array.from({ length: count - from }, (_, index) => from + index);
        await until('all to be read', () => roamer.measured(id).length >= numbers.length);
        expect(roamer.numbersOf(id)).toEqual(numbers);
      }
      expect(roamer.errors).toEqual([]);
      expect(roamer.moves).toBeGreaterThan(10);
    }
    for (const watcher of watchers) expectOnceInOrder(load, watcher);
  });
});

describeWithMosquitto.each(['stored', 'told'])(
  'the stream of three replicas, of which one is killed when a batch is %s and not acknowledged',
  (when) => {
    const MARK = 'the last';
    let ward: Ward;

    beforeAll(async () => {
      const kill = {
        KILL_WHEN: when,
        KILL_ON: MARK,
        NODE_OPTIONS: `--import ${join(process.cwd(), 'test', 'support', 'kill-when-told.mjs')}`,
      };
      ward = await Ward.open((number) => (number === 1 ? kill : {}));
    });
    afterAll(() => ward.close());

    it('misses nothing, and does not tell it again when it is delivered again', async () => {
      const { load, replicas } = ward;
      const watchers = await Promise.all(replicas.map((replica) => ward.watcherAt(replica)));
      load.publish(60);
      await load.untilReadBy(...watchers);
      load.publish(60, MARK);
      await until('the end of it', () => watchers[0]?.moves);
      load.start();
      await load.untilMore(600);
      await load.stop();
      await load.untilReadBy(...watchers);
      for (const watcher of watchers) expectOnceInOrder(load, watcher);
      // As the first one's own, although another has stored it again.
      const marked = watchers[0]?.read.find(({ data }) => data['mark'] === MARK);
      const [{ epoch } = {}] = await ward.database.query<{ epoch: number }>(
        'SELECT min(epoch) AS epoch FROM stream_epochs',
      );
      expect(marked && epochOf(marked)).toBe(String(epoch));
    });
  },
);

describeWithMosquitto('the stream of three replicas, of which one is cut off from the database', () => {
  let ward: Ward;
  let way: TcpProxy;

  beforeAll(async () => {
    ward = await Ward.open(
      () => ({}),
      async (url) => {
        way = await TcpProxy.to(url);
        await way.mend();
        return way.through(url);
      },
    );
  });
  afterAll(async () => {
    await ward.close();
    await way.cut();
  });

  it('misses and doubles nothing while the others take it for dead, nor when it comes back', async () => {
    const { load, replicas, database } = ward;
    const [first] = replicas as [Service];
    const watchers = await Promise.all(replicas.map((replica) => ward.watcherAt(replica)));
    load.start();
    await load.untilMore(600);
    await way.cut();
    const buried = (): Promise<unknown[]> => database.query('SELECT FROM stream_epochs WHERE ended');
    await until('it to be taken for dead', async () => (await buried()).length === 1);
    await load.untilMore(600);
    await way.mend();
    await until('it to go on as another', async () => {
      const [row] = await database.query<{ count: string }>('SELECT count(*) FROM stream_epochs');
      return Number(row?.count) === 4;
    });
    await load.untilMore(300);
    await load.stop();
    await load.untilReadBy(...watchers);
    for (const watcher of watchers) {
      expectOnceInOrder(load, watcher);
      expect(watcher.moves).toBe(0);
    }
    await first.register('late_1', 'ecg_monitor', 1);
    for (const watcher of watchers)
      await until('what it tells as another', () =>
        watcher.read.some(
          ({ event, data }) => event === 'device.registered' && data['device_id'] === 'late_1',
        ),
      );
  });
});

describeWithMosquitto('the stream of a replica that has told half of what another stored at once', () => {
  const COUNT = 900;
  let ward: Ward;

  beforeAll(async () => {
    ward = await Ward.open(() => ({ INGEST_BATCH_AGE: '300ms' }), undefined, 2);
  });
  afterAll(() => ward.close());

  it('misses and doubles nothing for a client that comes back there: half from the log, the rest live', async () => {
    const { load, database, replicas } = ward;
    const [first] = replicas as [Service];
    const watcher = await ward.watcherAt(first);
    const begun = await first.live(`?token=${await first.token()}`);
    const start = String((await begun.hear('connected')).data['last_id']);
    begun.end();
    load.publish(COUNT);
    await load.untilReadBy(watcher);
    const [row] = await database.query<{ epoch: number; last: number; middle: number }>(
      `SELECT epoch, last::int, (last - size / 2)::int AS middle FROM (
         SELECT epoch, place AS last, place - lag(place, 1, 0::bigint) OVER (ORDER BY place) AS size
         FROM stream_log WHERE other = 0
       ) AS rows ORDER BY size DESC LIMIT 1`,
    );
    const { epoch = 0, last = 0, middle = 0 } = row ?? {};
    expect(last - middle).toBeGreaterThan(100);
    const read = placeOf(watcher.read.at(-1)?.id ?? '');
    await until('it to be said that all was told', async () => {
      const [run] = await database.query<{ told: number }>(
        `SELECT told_place::int AS told FROM stream_epochs WHERE epoch = ${epoch}`,
      );
      return run?.told === read;
    });
    // Where a replica is for a moment that tells of a large row. The third begins there.
    await database.query(`UPDATE stream_epochs SET told_place = ${middle} WHERE epoch = ${epoch}`);
    const third = await ward.join(3);
    const [id = ''] = DEVICES;
    const clients = await Promise.all(
      ['', `&device_ids=${id}`].map((filter) =>
        third.live(`?token=${ward.token}&since=${start}&events=device.data.received${filter}`),
      ),
    );
    const [all, narrowed] = clients as [LiveClient, LiveClient];
    for (const client of clients) await client.hear('replayed');
    expect((await all.hear('replayed')).data['events']).toBe(middle - placeOf(start));
    load.publish(DEVICES.length);
    await load.stop();
    const numbersOf = ({ messages }: LiveClient, id: string): unknown[] =>
      messages.filter(({ data }) => data['device_id'] === id).map(({ data }) => data['number']);
    const numbers = Array.from({ length: COUNT / DEVICES.length + 1 }, (_, number) => number);
    for (const [client, ids] of [
      [all, DEVICES],
      [narrowed, [id]],
    ] as const)
      for (const each of ids) {
        await until('the rest', () => numbersOf(client, each).includes(numbers.length - 1));
        expect(numbersOf(client, each)).toEqual(numbers);
      }
    for (const client of clients) client.end();
  });
});

describeWithMosquitto('the stream of three replicas that share the messages', () => {
  let ward: Ward;
  let watchers: readonly Roamer[];

  beforeAll(async () => {
    ward = await Ward.open((number) => ({ MQTT_CLIENT_ID: `replica_${number}`, MQTT_SHARED_GROUP: 'ward' }));
    watchers = await Promise.all(ward.replicas.map((replica) => ward.watcherAt(replica)));
  });
  afterAll(() => ward.close());

  it('tells every event once, in the order in which a replica was given them', async () => {
    const { load } = ward;
    load.start();
    await load.untilMore(2_000);
    await load.stop();
    await load.untilReadBy(...watchers);
    for (const watcher of watchers) {
      expectOnce(load, watcher);
      const epochs = new Set(watcher.read.map(epochOf));
      expect(epochs.size).toBe(3);
      for (const id of DEVICES)
        for (const epoch of epochs) {
          const numbers = watcher
            .measured(id)
            .filter((message) => epochOf(message) === epoch)
            .map(({ data }) => Number(data['number']));
          expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
        }
    }
  });

  it('misses and doubles nothing when one is killed and comes back to its share', async () => {
    const { load } = ward;
    load.start();
    await load.untilMore(600);
    const [first] = ward.replicas as [Service];
    await first.end('SIGKILL');
    await load.untilMore(1_200);
    await first.launch();
    await load.untilMore(600);
    await load.stop();
    await load.untilReadBy(...watchers);
    for (const watcher of watchers) expectOnce(load, watcher);
    expect(watchers[0]?.moves).toBeGreaterThan(0);
  });
});
