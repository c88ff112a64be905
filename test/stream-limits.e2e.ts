import { createDatabase, type TestDatabase } from './support/database.js';
import { LiveClient } from './support/live-client.js';
import { Service } from './support/service.js';
import { TcpProxy } from './support/tcp-proxy.js';
import { until } from './support/until.js';

const PER_TOKEN = 2;
const TOTAL = 5;

describe('the limits of the WebSocket', () => {
  let database: TestDatabase;
  let service: Service;
  const clients: LiveClient[] = [];

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({
      DATABASE_URL: database.url,
      WS_MAX_CLIENTS: String(TOTAL),
      WS_MAX_CLIENTS_PER_TOKEN: String(PER_TOKEN),
      WS_PING_INTERVAL: '1s',
    });
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) client.end();
    await untilWatched(0);
  });
  afterAll(async () => {
    await service.remove();
    await database.drop();
  });

  const untilWatched = (count: number): Promise<true> =>
    until(
      `${count} clients`,
      async () => (await service.get('/health/detailed')).body.info.websocket.clients === count,
    );
  const tokenOf = (sub: string): Promise<string> => service.token({ role: 'viewer', ward: sub });
  const open = async (query = ''): Promise<LiveClient> => {
    const client = await service.live(query);
    clients.push(client);
    return client;
  };
  const watch = async (token: string): Promise<LiveClient> => {
    const client = await open(`?token=${token}`);
    await client.hear('connected', (data) => data['authenticated'] === true);
    return client;
  };

  it('closes one connection too many with the same token with 4429, however it authenticates', async () => {
    const token = await tokenOf('a');
    const [first] = [await watch(token), await watch(token)];
    expect(await (await open(`?token=${token}`)).closed()).toBe(4429);
    const byMessage = await open();
    byMessage.say({ event: 'authenticate', data: { token } });
    expect(await byMessage.closed()).toBe(4429);
    // Another token has seats of its own, and one that is given up can be taken again.
    await watch(await tokenOf('b'));
    first.end();
    await untilWatched(2);
    await watch(token);
  });

  it('gives the seat of the old token up when a connection takes a new one', async () => {
    const [old, renewed] = [await tokenOf('old'), await tokenOf('new')];
    const client = await watch(old);
    await watch(old);
    client.say({ event: 'authenticate', data: { token: renewed } });
    await client.hear('authenticated');
    client.say({ event: 'authenticate', data: { token: renewed } });
    await until(
      'the second answer',
      () => client.messages.filter(({ event }) => event === 'authenticated').length === 2,
    );
    await watch(old);
    await watch(renewed);
    expect(await (await open(`?token=${renewed}`)).closed()).toBe(4429);
  });

  it('closes one connection too many in all with 1013', async () => {
    for (let index = 0; index < TOTAL; index += 1) await watch(await tokenOf(`ward ${index}`));
    expect(await (await open()).closed()).toBe(1013);
    clients[0]?.end();
    await untilWatched(TOTAL - 1);
    await watch(await tokenOf('last'));
  });

  it('drops a peer that has fallen silent, and no other', async () => {
    const proxy = await TcpProxy.to(`tcp://127.0.0.1:${service.port}`);
    await proxy.mend();
    const silent = await LiveClient.open(
      `ws://127.0.0.1:${proxy.port}/ws/mqtt?token=${await tokenOf('silent')}`,
    );
    clients.push(silent);
    const present = await watch(await tokenOf('present'));
    await untilWatched(2);
    proxy.mute();
    await untilWatched(1);
    present.say({ event: 'ping' });
    await present.hear('pong');
    await proxy.cut();
  });

  it('closes a client that sends too many messages with 4429, and writes that down', async () => {
    const chatty = await watch(await tokenOf('chatty'));
    const present = await watch(await tokenOf('calm'));
    for (let index = 0; index < 200; index += 1) chatty.say({ event: 'subscribe' });
    expect(await chatty.closed()).toBe(4429);
    present.say({ event: 'ping' });
    await present.hear('pong');
    await until('the denial', async () => {
      const rows = await database.query("SELECT FROM audit_log WHERE detail = 'too_many_messages'");
      return rows.length === 1;
    });
    const [row] = await database.query<{ count: string }>(
      "SELECT count(*) FROM audit_log WHERE action = 'subscribeStream'",
    );
    // While they are sent, some seconds may pass.
    expect(Number(row?.count)).toBeLessThan(100);
  });

  const ways = ['ping frames', 'pong frames nobody asked for', 'messages', 'empty messages'] as const;
  const floods: readonly (readonly [
    way: (typeof ways)[number],
    who: string,
    query: () => Promise<string>,
  ])[] = ways.flatMap((way) => [
    [way, 'a client', async () => `?token=${await tokenOf(`flood of ${way}`)}&device_ids=none`] as const,
    [way, 'one that has not authenticated', () => Promise.resolve('')] as const,
  ]);
  it.each(floods)('closes with 4429 for too many %s, and reads no more of %s', async (way, _who, query) => {
    const flooding = await open(await query());
    await flooding.hear('connected');
    const denials = async (): Promise<number> =>
      (await database.query("SELECT FROM audit_log WHERE detail = 'too_many_messages'")).length;
    const before = await denials();
    // It does not read either: the answers would pile up.
    flooding.socket.pause();
    const send: () => void = {
      'ping frames': () => flooding.socket.ping('x'.repeat(125)),
      'pong frames nobody asked for': () => flooding.socket.pong('x'.repeat(125)),
      messages: () => flooding.say({ event: 'ping' }),
      'empty messages': () => flooding.say(''),
    }[way];
    for (let sent = 0; sent < 200; sent += 1) send();
    await until('the denial', async () => (await denials()) === before + 1);
    await untilWatched(0);
    flooding.socket.resume();
    expect(await flooding.closed()).toBe(4429);
  });

  it('answers the pings of a client, with what they carry', async () => {
    const client = await watch(await tokenOf('pings'));
    const answers: string[] = [];
    client.socket.on('pong', (data) => answers.push(data.toString()));
    for (const word of ['here', '']) client.socket.ping(word);
    await until('the answers', () => answers.length === 2);
    expect(answers).toEqual(['here', '']);
  });

  it('takes 64 kB in one message and no byte more, in frames or at once', async () => {
    const fits = await watch(await tokenOf('fits'));
    fits.socket.send('x'.repeat(65_536));
    expect((await fits.hear('error')).data['code']).toBe('invalid_json');
    fits.socket.send('x'.repeat(65_537));
    expect(await fits.closed()).toBe(1009);
    const inFrames = await watch(await tokenOf('frames'));
    inFrames.socket.send('x'.repeat(40_000), { fin: false });
    inFrames.socket.send('x'.repeat(40_000), { fin: true });
    expect(await inFrames.closed()).toBe(1009);
  });
});
