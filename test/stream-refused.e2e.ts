import type { MqttClient } from 'mqtt';
import { Client } from 'pg';
import { createDatabase, type TestDatabase } from './support/database.js';
import { EventSourceClient } from './support/event-source.js';
import type { LiveClient, LiveMessage } from './support/live-client.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

const LOCK = 4711;

describe('a client that comes back while the database fails', () => {
  let database: TestDatabase;
  let way: TcpProxy;
  let service: Service;
  let device: MqttClient;
  let witness: LiveClient;
  let weight = 50;
  const clients: { end(): void }[] = [];

  beforeAll(async () => {
    database = await createDatabase();
    way = await TcpProxy.to(database.url);
    await way.mend();
    service = await Service.start({ DATABASE_URL: way.through(database.url) });
    await service.register('scale_1', 'weight_scale');
    device = await service.mqtt();
    witness = await service.live(`?token=${await service.token()}`);
    await witness.hear('connected');
    await weigh();
    await witness.hear('device.connected');
  });
  afterEach(() => clients.splice(0).forEach((client) => client.end()));
  afterAll(async () => {
    witness.end();
    await device.endAsync();
    await service.remove();
    await way.cut();
    await database.drop();
  });

  /** Publishes a weight and waits until it has been streamed. */
  const weigh = async (): Promise<LiveMessage> => {
    weight += 1;
    const value = weight;
    const payload = JSON.stringify({ metric_type: 'weight', value });
    await device.publishAsync('devices/scale_1/data', payload, { qos: 1 });
    return witness.hear('device.data.received', (data) => data['value'] === value);
  };
  const told = ({ messages }: { messages: readonly LiveMessage[] }): LiveMessage[] =>
    messages.filter(({ id }) => id !== undefined);
  /** What it is told when it comes back once more. */
  const missed = async (since: string): Promise<LiveMessage[]> => {
    const client = await service.live(`?token=${await service.token()}&since=${since}`);
    clients.push(client);
    await client.hear('replayed');
    return told(client);
  };
  const since = (client: LiveClient, id: string): LiveClient => {
    clients.push(client);
    client.say({ event: 'subscribe', data: { since: id } });
    return client;
  };

  it.each(['can not be written', 'is away'])(
    'is told nothing, when what it asks for %s, and misses nothing when it comes back again',
    async (trouble) => {
      const { id = '' } = await weigh();
      const first = await weigh();
      // Subscribing waits for the lock, and fails then.
      await database.query(`
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN PERFORM pg_advisory_xact_lock(${LOCK}); RAISE EXCEPTION 'no room'; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON audit_log FOR EACH ROW
          WHEN (NEW.action = 'subscribeStream') EXECUTE FUNCTION fail()`);
      const holder = new Client({ connectionString: database.url });
      await holder.connect();
      await holder.query(`SELECT pg_advisory_lock(${LOCK})`);
      const client = since(await service.live(`?token=${await service.token()}`), id);
      await until('the subscription to wait', async () => {
        const locks = await database.query(`SELECT FROM pg_locks WHERE objid = ${LOCK} AND NOT granted`);
        return locks.length === 1;
      });
      // It is kept back, since the client may go on from before.
      const second = await weigh();
      if (trouble === 'is away') await way.cut();
      await holder.end();
      expect((await client.hear('error')).data['code']).toBe('audit_unavailable');
      expect(await client.closed()).toBe(1013);
      expect(told(client)).toEqual([]);
      if (trouble === 'is away') await way.mend();
      await database.query('DROP TRIGGER fail ON audit_log; DROP FUNCTION fail()');
      await service.untilReady();
      expect(await missed(id)).toEqual([first, second]);
    },
  );

  it('is told nothing when what it missed can not be read, over WebSocket and HTTP, and goes on later', async () => {
    const { id = '' } = await weigh();
    const first = await weigh();
    await database.query('ALTER TABLE stream_log RENAME TO stream_log_away');
    const token = await service.token();
    const bySubscription = since(await service.live(`?token=${token}`), id);
    const byHandshake = await service.live(`?token=${token}&since=${id}`);
    const byHttp = await EventSourceClient.open(service.port, '', {
      authorization: `Bearer ${token}`,
      'last-event-id': id,
    });
    clients.push(byHandshake, byHttp);
    for (const client of [bySubscription, byHandshake]) {
      expect((await client.hear('error')).data['code']).toBe('internal_error');
      expect(await client.closed()).toBe(1013);
    }
    expect((await byHttp.hear('error')).data['code']).toBe('internal_error');
    await byHttp.closed();
    await database.query('ALTER TABLE stream_log_away RENAME TO stream_log');
    const second = await weigh();
    expect([bySubscription, byHandshake, byHttp].flatMap(told)).toEqual([]);
    // It has read no id, and says the one that it has once more.
    expect(byHttp.lastEventId).toBe('');
    expect(await missed(id)).toEqual([first, second]);
  });
});
