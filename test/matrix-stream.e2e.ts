import { EVENT_TYPES, type EventType } from '#kernel';
import type { ClientMessage } from '../libs/telemetry/src/adapters/live-message.js';
import type { StreamFilter } from '../libs/telemetry/src/domain/stream-filter.js';
import { CALLERS, DEVICE_NAMES, DEVICES, maySee, type Caller, type Grant } from './support/callers.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import type { LiveClient, LiveMessage } from './support/live-client.js';
import { routeTable, TELL_ROUTES } from './support/route-table.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const idOf = (name: string): string => `${name}_1`;
const ALL_IDS = [...DEVICE_NAMES.map(idOf), 'nowhere'];

/** What a filter leaves of the events of all devices. */
type Passes = (event: string, deviceId: string, patientId: number, data: LiveMessage['data']) => boolean;
interface Wish {
  readonly data: object;
  readonly passes: Passes;
}

/** Ways to narrow the stream: the compiler asks for one of every kind there is, own and another's. */
const WISHES: Readonly<Record<keyof StreamFilter | 'none' | 'several', readonly Wish[]>> = {
  none: [{ data: {}, passes: () => true }],
  deviceIds: [
    ...ALL_IDS.map((id): Wish => ({ data: { device_ids: [id] }, passes: (_event, device) => device === id })),
    { data: { device_ids: ALL_IDS }, passes: () => true },
  ],
  patientIds: [
    ...[1, 2, 3].map((id): Wish => ({
      data: { patient_ids: [id] },
      passes: (_e, _d, patient) => patient === id,
    })),
    { data: { patient_ids: [1, 2, 3] }, passes: () => true },
  ],
  metricTypes: ['weight', 'glucose'].map((metric) => ({
    data: { metric_types: [metric] },
    passes: (event, _device, _patient, data) =>
      event !== 'device.data.received' || data['metric_type'] === metric,
  })),
  events: (['device.data.received', 'command.queued', 'message.rejected'] as const).map((type) => ({
    data: { events: [type] },
    passes: (event) => event === type,
  })),
  several: [
    {
      data: { device_ids: ALL_IDS, patient_ids: [2], events: ['device.data.received'] },
      passes: (event, _device, patient) => event === 'device.data.received' && patient === 2,
    },
  ],
};

/** Everything a client may say, and what it hears before it has authenticated, and after: the compiler asks for all. */
const ACTIONS: Readonly<
  Record<ClientMessage['event'] | 'dance', { data?: object; before: string; after: string }>
> = {
  ping: { before: 'pong', after: 'pong' },
  subscribe: { before: 'unauthorized', after: 'subscribed' },
  unsubscribe: { before: 'unauthorized', after: 'unsubscribed' },
  // With a token that is none.
  authenticate: { data: { token: 'nonsense' }, before: 'closed 4401', after: 'closed 4401' },
  dance: { before: 'unknown_event', after: 'unknown_event' },
};

const DOORS = ['header', 'query', 'first message'] as const;
type Door = (typeof DOORS)[number];

/** What the same token is denied over REST, it is not told of. */
const mayHear = ({ scopes, confined }: Grant, event: string): boolean => {
  if (event.startsWith('command.')) return scopes.includes('commands:read');
  return event !== 'message.rejected' || (scopes.includes('admin') && !confined);
};

const mayWatch = ({ grant }: Caller): boolean => grant?.scopes.includes('stream') ?? false;

describe('every role at the WebSocket', () => {
  let database: TestDatabase;
  let service: Service;

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({
      DATABASE_URL: database.url,
      WS_MAX_CLIENTS_PER_TOKEN: '100',
      ...TELL_ROUTES,
    });
  });
  afterAll(async () => {
    await service.remove();
    await database.drop();
  });

  const enter = async ({ token, scheme }: Caller, door: Door): Promise<LiveClient> => {
    const text = (await token?.()) ?? '';
    if (door === 'header') return service.live('', token ? { authorization: `${scheme} ${text}` } : {});
    if (door === 'query') return service.live(token ? `?token=${text}` : '');
    const client = await service.live();
    client.say({ event: 'authenticate', data: { token: text } });
    return client;
  };
  /** What becomes of a client: the code it is closed with, or else how it is let in. */
  const fate = async (client: LiveClient, letIn: boolean): Promise<string> =>
    until('its fate', () => {
      if (client.closeCode !== undefined) return `closed ${client.closeCode}`;
      return letIn && client.messages.find(({ data }) => data['authenticated'] === true)?.event;
    });
  /** The answer to what a client says: the name of the event or of the error, or the code it is closed with. */
  const said = async (client: LiveClient, event: string, data: object = {}): Promise<string> => {
    const before = client.messages.length;
    client.say({ event, data });
    return until(`an answer to ${event}`, () => {
      if (client.closeCode !== undefined) return `closed ${client.closeCode}`;
      const answer = client.messages.slice(before).find(({ id }) => id === undefined);
      return answer && (answer.event === 'error' ? String(answer.data['code']) : answer.event);
    });
  };

  it('has no other WebSocket', async () => {
    expect((await routeTable(service)).sockets).toEqual(['/ws/mqtt']);
  });

  it.each(CALLERS)('lets $name in, or closes, at every door', async (caller) => {
    // A scheme is a matter of the header; without a token there is nothing to say at the others.
    const doors = caller.scheme === 'Bearer' ? DOORS : (['header'] as const);
    const right = (door: Door): string => {
      if (!caller.grant) return 'closed 4401';
      if (!mayWatch(caller)) return 'closed 4403';
      return door === 'first message' ? 'authenticated' : 'connected';
    };
    const fates = doors.map(async (door) => {
      const client = await enter(caller, door);
      const became = await fate(client, mayWatch(caller));
      client.end();
      return [door, became];
    });
    expect(await Promise.all(fates)).toEqual(doors.map((door) => [door, right(door)]));
  });

  it.each(Object.entries(ACTIONS))('answers %s before and after', async (event, { data, before, after }) => {
    const client = await service.live();
    expect(await client.hear('connected').then(() => said(client, event, data))).toBe(before);
    client.end();
    const answers = CALLERS.filter(mayWatch).map(async (caller) => {
      const known = await enter(caller, 'query');
      await known.hear('connected');
      const answer = await said(known, event, data);
      known.end();
      return [caller.name, answer];
    });
    expect(await Promise.all(answers)).toEqual(CALLERS.filter(mayWatch).map(({ name }) => [name, after]));
  });

  it('lets who has no token watch the default tenant where it is told to, and no other tenant', async () => {
    // Of one with the same database, the others' watchers would be told, too.
    const own = await createDatabase();
    const open = await Service.start({ DATABASE_URL: own.url, WS_ALLOW_ANONYMOUS: 'true' });
    const stranger = await open.live();
    expect(await fate(stranger, true)).toBe('connected');
    const owners = ['north', 'default'].map((tenant) => ({ tenant, device_id: `of_${tenant}` }));
    for (const { tenant, device_id } of owners) {
      const headers = { authorization: `Bearer ${await open.token({ role: 'admin', tenant })}` };
      const registration = { device_id, type: 'weight_scale', patient_id: 1 };
      expect((await open.post('/devices/register', registration, headers)).status).toBe(201);
    }
    await stranger.hear('device.registered', ({ device_id }) => device_id === 'of_default');
    expect(stranger.messages.map(({ data }) => data['device_id'])).not.toContain('of_north');
    stranger.end();
    await open.remove();
    await own.drop();
  });

  describe('while everything happens to everybody’s devices', () => {
    interface Watch {
      readonly caller: Caller;
      readonly wish: Wish | null;
      readonly client: LiveClient;
    }
    const watches: Watch[] = [];
    /** Has not authenticated. */
    let stranger: LiveClient;
    /** All that has happened, as the admins of both tenants heard it. */
    let happened: LiveMessage[] = [];
    const told = ({ messages }: LiveClient): LiveMessage[] => messages.filter(({ id }) => id !== undefined);

    beforeAll(async () => {
      const witnesses = await Promise.all(
        ['default', 'north'].map(async (tenant) => {
          const witness = await service.live(`?token=${await service.token({ role: 'admin', tenant })}`);
          await witness.hear('connected');
          return witness;
        }),
      );
      stranger = await service.live();
      const wishes = [...Object.values(WISHES).flat(), null];
      const wanted = CALLERS.filter(mayWatch).flatMap((caller) => wishes.map((wish) => ({ caller, wish })));
      await Promise.all(
        wanted.map(async ({ caller, wish }) => {
          const client = await enter(caller, 'header');
          watches.push({ caller, wish, client });
          await client.hear('connected');
          if (wish) expect(await said(client, 'subscribe', wish.data)).toBe('subscribed');
          else expect(await said(client, 'unsubscribe')).toBe('unsubscribed');
        }),
      );
      await Promise.all(DEVICE_NAMES.map((name) => live(name, witnesses)));
      // What was told before has arrived before.
      await Promise.all(watches.map(async ({ client }) => expect(await said(client, 'ping')).toBe('pong')));
      happened = witnesses.flatMap(told);
      for (const witness of witnesses) witness.end();
    });
    afterAll(() => [stranger, ...watches.map(({ client }) => client)].forEach((client) => client.end()));

    /** The life of a device, with all that can be told of it. */
    async function live(name: keyof typeof DEVICES, witnesses: readonly LiveClient[]): Promise<void> {
      const { tenant, patientId } = DEVICES[name];
      const deviceId = idOf(name);
      const headers = { authorization: `Bearer ${await service.token({ role: 'admin', tenant })}` };
      const witness = witnesses[tenant === 'default' ? 0 : 1];
      const hears = async (event: EventType): Promise<unknown> =>
        witness?.hear(event, (data) => data['device_id'] === deviceId);
      const device = await service.mqtt();
      const say = (topic: string, payload: object): Promise<unknown> =>
        device.publishAsync(`devices/${deviceId}/${topic}`, JSON.stringify(payload), { qos: 1 });
      const order = async (more: object = {}): Promise<string> => {
        const body = { command: 'tare', ...more };
        return (await service.post(`/devices/${deviceId}/command`, body, headers)).body.command_id;
      };
      const registration = { device_id: deviceId, type: 'weight_scale', patient_id: patientId };
      await service.post('/devices/register', registration, headers);
      const cancelled = await order();
      await service.post(`/devices/${deviceId}/commands/${cancelled}/cancel`, '', headers);
      await order({ expires_in: '1ms' });
      await hears('command.expired');
      const [completed, failed] = [await order(), await order()];
      await say('data', { metric_type: 'weight', value: 70 });
      await hears('command.sent');
      await say('responses', { command_id: completed, status: 'acknowledged' });
      await say('responses', { command_id: completed, status: 'completed' });
      await say('responses', { command_id: failed, status: 'failed', error: 'stuck' });
      await Promise.all([hears('command.completed'), hears('command.failed')]);
      await say('data', { metric_type: 'weight', value: 'heavy' });
      await say('status', { status: 'online', battery: 19 });
      await say('status', { status: 'offline' });
      await Promise.all(
        (['message.rejected', 'device.battery.low', 'device.disconnected'] as const).map(hears),
      );
      await service.patch(`/devices/${deviceId}`, { model: 'M2' }, headers);
      await service.delete(`/devices/${deviceId}`, headers);
      await hears('device.decommissioned');
      await device.endAsync();
    }

    it('tells of all that there is to tell of, of every device', () => {
      const kinds = happened.map(({ event, data }) => `${event} ${String(data['device_id'])}`);
      const due = EVENT_TYPES.flatMap((event) => DEVICE_NAMES.map((name) => `${event} ${idOf(name)}`));
      expect([...new Set(kinds)].sort()).toEqual(due.sort());
    });

    it('tells a stranger nothing', () => {
      expect(stranger.messages.map(({ event }) => event)).toEqual(['connected']);
    });

    it.each(CALLERS.filter(mayWatch))('tells $name what it may see and wants, and nothing else', (caller) => {
      const wrong: string[] = [];
      for (const { wish, client } of watches.filter((watch) => watch.caller === caller)) {
        const due = happened.filter(({ event, data }) => {
          const name = DEVICE_NAMES.find((each) => idOf(each) === data['device_id']);
          if (!name || !caller.grant || !wish) return false;
          const owner = DEVICES[name];
          return (
            maySee(caller.grant, owner) &&
            mayHear(caller.grant, event) &&
            wish.passes(event, idOf(name), owner.patientId, data)
          );
        });
        const namesOf = (messages: readonly LiveMessage[]): string =>
          messages
            .map(({ event, id, data }) => `${event} ${String(data['device_id'])} ${id}`)
            .sort()
            .join();
        if (namesOf(told(client)) !== namesOf(due))
          wrong.push(`${JSON.stringify(wish?.data)}: ${namesOf(told(client))} instead of ${namesOf(due)}`);
      }
      expect(wrong).toEqual([]);
    });
  });
});
