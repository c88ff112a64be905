import fc from 'fast-check';
import { DEVICE_ID_PATTERN } from './device.js';
import { mayUseTopic, ownTopics } from './topic-rules.js';

const FILTERS = {
  data: 'devices/+/data',
  status: 'devices/+/status',
  responses: 'devices/+/responses',
  commands: 'devices/+/commands',
};
const ACTIONS = ['publish', 'subscribe'] as const;
const deviceId = fc.stringMatching(new RegExp(DEVICE_ID_PATTERN));
/** Texts made of what topics are made of, and of what should never be let through. */
const topic = fc.constantFrom(
  'devices',
  'a',
  'b',
  '+',
  '#',
  '',
  'data',
  'status',
  'responses',
  'commands',
  '$share',
  '$SYS',
  '$CONTROL',
  'events',
  '\0',
);

describe('the topics of a device', () => {
  it.each([
    ['publish', ['devices/a/data', 'devices/a/status', 'devices/a/responses']],
    ['subscribe', ['devices/a/commands']],
  ] as const)('may %s on its own', (action, topics) => {
    expect(ownTopics(FILTERS, 'a')[action]).toEqual(topics);
    for (const own of topics) expect(mayUseTopic(FILTERS, 'a', action, own)).toBe(true);
  });

  it.each([
    ['publish', 'devices/b/data'],
    ['publish', 'devices/a/commands'],
    ['publish', 'devices/a/data/'],
    ['publish', 'devices/a/data/x'],
    ['publish', 'DEVICES/a/data'],
    ['publish', 'events/device.connected/a'],
    ['publish', '$CONTROL/dynamic-security/v1'],
    ['publish', '$SYS/broker/uptime'],
    ['subscribe', 'devices/a/data'],
    ['subscribe', 'devices/b/commands'],
    ['subscribe', 'devices/+/commands'],
    ['subscribe', 'devices/a/#'],
    ['subscribe', '#'],
    ['subscribe', '+/a/commands'],
    ['subscribe', '$SYS/#'],
    ['subscribe', '$CONTROL/#'],
    ['subscribe', '$share/hduce_mqtt_service/devices/+/data'],
    ['subscribe', '$share/x/devices/a/commands'],
  ] as const)('refuses to %s %s', (action, foreign) => {
    expect(mayUseTopic(FILTERS, 'a', action, foreign)).toBe(false);
  });

  it('lets no name that is not a device id pass for one', () => {
    for (const name of ['+', '#', '', 'a/b', '$share', '+/data'])
      for (const action of ACTIONS)
        for (const own of [...ownTopics(FILTERS, name).publish, ...ownTopics(FILTERS, name).subscribe])
          expect(mayUseTopic(FILTERS, name, action, own)).toBe(false);
  });

  it('allows nothing but the four topics, whatever is tried', () => {
    const tried = fc.tuple(topic, topic, topic, topic, topic).map((levels) => levels.join('/'));
    fc.assert(
      fc.property(deviceId, fc.constantFrom(...ACTIONS), tried, fc.string(), (id, action, levels, text) => {
        for (const name of [levels, text, levels.replaceAll('a', id)])
          expect(mayUseTopic(FILTERS, id, action, name)).toBe(ownTopics(FILTERS, id)[action].includes(name));
      }),
    );
  });

  it('never lets one device near the topics of another, nor near a wildcard', () => {
    fc.assert(
      fc.property(deviceId, deviceId, fc.constantFrom(...ACTIONS), (id, other, action) => {
        const topics = Object.values(ownTopics(FILTERS, other)).flat();
        for (const own of topics) expect(mayUseTopic(FILTERS, id, action, own) && id !== other).toBe(false);
        for (const own of topics)
          for (const wild of [own.replace(other, () => '+'), `$share/g/${own}`, `${own}/#`])
            expect(mayUseTopic(FILTERS, id, action, wild)).toBe(false);
      }),
    );
  });

  it('takes device ids literally that mean something to String.replace', () => {
    expect(ownTopics(FILTERS, '$&').publish[0]).toBe('devices/$&/data');
  });
});
