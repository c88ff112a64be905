import { readFileSync } from 'node:fs';
import type { IClientOptions, MqttClient } from 'mqtt';
import { brokerKindsHere, BrokerStage, closed, OTHER, OWN } from './support/broker-stage.js';
import { until } from './support/until.js';

type Direction = 'publish' | 'subscribe';

/**
 * What a device may do with its own topic of each kind, and with no other topic at all. Written from the contract; the
 * kinds are the variables of the service's own, so that a new one without a rule fails.
 */
const RULES: Readonly<Record<string, Direction | 'nothing'>> = {
  MQTT_TOPIC_DEVICES: 'publish',
  MQTT_TOPIC_STATUS: 'publish',
  MQTT_TOPIC_RESPONSES: 'publish',
  MQTT_TOPIC_COMMANDS: 'subscribe',
  MQTT_TOPIC_EVENTS: 'nothing',
};

/** The topics of each kind, as `.env.example` shows them, with a place for the device: events have theirs at the end. */
const KINDS = new Map(
  [...readFileSync('.env.example', 'utf8').matchAll(/^#?(MQTT_TOPIC_\w+)=(\S+)/gm)].map(
    ([, kind = '', filter = '']) => [kind, filter.includes('+') ? filter : `${filter}/device.connected/+`],
  ),
);
const GROUP = 'hduce_mqtt_service';
const topicOf = (filter: string, device: string): string => filter.replace('+', device);
const ownOf = (direction: Direction): string[] =>
  [...KINDS].filter(([kind]) => RULES[kind] === direction).map(([, filter]) => topicOf(filter, OWN));

/** Topics to publish on, and to leave a will on: of every kind the own, another's, nobody's, and those around it. */
const TOPICS: readonly string[] = [
  ...[...KINDS.values()].flatMap((filter) => [
    ...[OWN, OTHER, 'nobody_1', `${OWN}/${OTHER}`].map((device) => topicOf(filter, device)),
    `${topicOf(filter, OWN)}/more`,
    `/${topicOf(filter, OWN)}`,
    topicOf(filter, OWN).toUpperCase(),
    `$share/${GROUP}/${topicOf(filter, OWN)}`,
  ]),
  'anything',
  '$SYS/forged',
  '$SYS/broker/version',
  '$CONTROL/forged',
  '$CONTROL/dynamic-security/v1',
];

/** Filters to subscribe to: of every kind the own, another's, everybody's, and shared with the service or in a group. */
const FILTERS: readonly string[] = [
  ...[...KINDS.values()].flatMap((filter) => [
    topicOf(filter, OWN),
    topicOf(filter, OTHER),
    filter,
    `${topicOf(filter, OWN)}/#`,
    `$share/${GROUP}/${filter}`,
    `$share/group/${topicOf(filter, OTHER)}`,
    `$share/group/${topicOf(filter, OWN)}`,
  ]),
  ...['#', '+', '+/#', '+/+/+', '/#', 'devices/#', 'devices/+/+', `devices/${OWN}/#`, `devices/${OWN}/+`],
  ...[
    'events/#',
    '$share/group/#',
    '$SYS/#',
    '$SYS/broker/version',
    '$CONTROL/#',
    '$CONTROL/dynamic-security/#',
  ],
];

/** MQTT 5.0, section 2.4: not authorized. */
const NOT_AUTHORIZED = 0x87;
/** MQTT 3.1.1, section 3.9.3. */
const FAILURE = 0x80;

const forgedBy = (marker: string): string =>
  JSON.stringify({
    marker,
    commands: [{ command: 'createClient', username: 'forged', password: 'forged' }],
  });

/** Tries to publish. @returns the reason given for a refusal, once the broker has taken it or cut the client off. */
async function publishAs(client: MqttClient, topic: string, marker: string, qos: 0 | 1): Promise<unknown> {
  let reason: unknown;
  client.publish(topic, forgedBy(marker), { qos }, (error) => {
    reason = (error as { code?: unknown } | undefined)?.code;
  });
  // The broker works on what a client sends in its order: an answer to the last is one to all.
  client.publish(ownOf('publish')[0] ?? '', '{"after":"it"}', { qos: 1 }, () => undefined);
  const last = client.getLastMessageId();
  await Promise.race([
    closed(client),
    new Promise<void>((resolve) =>
      client.on('packetreceive', (packet) => {
        if (packet.cmd === 'puback' && packet.messageId === last) resolve();
      }),
    ),
  ]);
  await client.endAsync(true);
  return reason;
}

/** The return code of the answer to a subscription. */
async function answerTo(client: MqttClient, filter: string): Promise<unknown> {
  const answer = new Promise<unknown>((resolve) => {
    client.on('packetreceive', function listen(packet) {
      if (packet.cmd !== 'suback') return;
      client.off('packetreceive', listen);
      resolve(packet.granted[0]);
    });
  });
  await client.subscribeAsync(filter, { qos: 1 }).catch(() => undefined);
  return answer;
}

describe.each(brokerKindsHere())('every topic for a device at %s', (kind) => {
  let stage: BrokerStage;
  beforeAll(async () => {
    stage = await BrokerStage.of(kind);
  });
  afterAll(() => stage.end());

  // The embedded broker does not know MQTT 5.
  const protocols: readonly (4 | 5)[] = kind === 'the embedded broker' ? [4] : [4, 5];

  it('has a rule for every kind, and a kind for every rule', () => {
    expect([...KINDS.keys()].sort()).toEqual(Object.keys(RULES).sort());
  });

  /** Which topics what was marked so has arrived on, once all that was sent before has. */
  const arrived = async (marker: string): Promise<string[]> => {
    await stage.settle();
    return stage.heard.filter((text) => text.includes(marker)).map((text) => text.split(' ')[0] ?? '');
  };
  const cannotConnect = async (name: string): Promise<void> => {
    await expect(stage.connect({ username: name, password: name, clientId: name })).rejects.toThrow();
  };

  it('lets in who has no account only where nobody else can come from, and then to devices’ topics', async () => {
    const stranger = { username: '', password: '', clientId: 'stranger' };
    if (kind !== 'the embedded broker') {
      await expect(stage.connect(stranger)).rejects.toThrow();
      return;
    }
    const marker = crypto.randomUUID();
    for (const topic of TOPICS) await publishAs(await stage.connect(stranger), topic, marker, 1);
    const spoken = [...KINDS].flatMap(([rule, filter]) =>
      RULES[rule] === 'publish' ? [OWN, OTHER, 'nobody_1'].map((device) => topicOf(filter, device)) : [],
    );
    expect((await arrived(marker)).sort()).toEqual(spoken.sort());
    const client = await stage.connect(stranger);
    const refused: string[] = [];
    for (const filter of FILTERS) if ((await answerTo(client, filter)) === FAILURE) refused.push(filter);
    expect(refused).toEqual(FILTERS.filter((filter) => filter.startsWith('$')));
    await client.endAsync();
  });

  describe.each(protocols)('at protocol level %i', (protocolVersion) => {
    const device = (options: IClientOptions = {}): Promise<MqttClient> =>
      stage.device(OWN, { protocolVersion, ...options });

    it.each([0, 1] as const)('takes at QoS %i what it may publish, and nothing else', async (qos) => {
      const marker = crypto.randomUUID();
      const refused = new Map<string, unknown>();
      for (const topic of TOPICS) {
        refused.set(topic, await publishAs(await device(), topic, marker, qos));
      }
      expect((await arrived(marker)).sort()).toEqual(ownOf('publish').sort());
      await cannotConnect('forged');
      if (protocolVersion === 5 && qos === 1)
        for (const topic of TOPICS)
          expect([topic, refused.get(topic)]).toEqual([
            topic,
            ownOf('publish').includes(topic) ? undefined : NOT_AUTHORIZED,
          ]);
    });

    it('leaves a will where it may publish, and nowhere else', async () => {
      const marker = crypto.randomUUID();
      const rejected: string[] = [];
      for (const topic of TOPICS) {
        const will = { topic, payload: Buffer.from(forgedBy(marker)), qos: 1 as const, retain: false };
        const heir = await device({ will }).catch(() => null);
        if (!heir) rejected.push(topic);
        heir?.stream.destroy();
        // Whoever comes back under the same client id finds the will of the one before carried out.
        await (await device()).endAsync();
      }
      await until('the wills', async () => (await arrived(marker)).length >= ownOf('publish').length);
      expect((await arrived(marker)).sort()).toEqual(ownOf('publish').sort());
      await cannotConnect('forged');
      // Mosquitto takes them and does not deliver them.
      const foreign = TOPICS.filter((topic) => !ownOf('publish').includes(topic));
      expect(rejected).toEqual(kind === 'the embedded broker' ? foreign : []);
    });

    it('hears what it may, whatever it subscribes to', async () => {
      const [commands = ''] = ownOf('subscribe');
      const service = await stage.connect({});
      const probes = [...KINDS.values()].flatMap((filter) => [topicOf(filter, OWN), topicOf(filter, OTHER)]);
      const wrong: string[] = [];
      for (const filter of FILTERS) {
        const client = await device();
        const heard = new Set<string>();
        const last = crypto.randomUUID();
        const isLast = new Promise<void>((resolve) =>
          client.on('message', (topic, payload) => {
            heard.add(topic);
            if (payload.toString() === last) resolve();
          }),
        );
        const granted = await answerTo(client, filter);
        await client.subscribeAsync(commands, { qos: 1 });
        for (const topic of probes) service.publish(topic, '{}', { qos: 1 });
        await service.publishAsync(commands, last, { qos: 1 });
        await isLast;
        await client.endAsync();
        if ([...heard].join() !== commands) wrong.push(`${filter}: hears ${[...heard].join(' ')}`);
        const due = filter === commands ? 1 : protocolVersion === 5 ? NOT_AUTHORIZED : FAILURE;
        // Rules from a file are asked when a message is delivered, not when a filter is subscribed to.
        if (stage.guarded && granted !== due) wrong.push(`${filter}: ${String(granted)} instead of ${due}`);
      }
      expect(wrong).toEqual([]);
      await service.endAsync();
    });
  });
});
