import fc from 'fast-check';
import { DeviceTopic, filterMatches } from './topic-filter.js';

const FILTERS = ['devices/+/data', '+/data', 'a/+', 'a/b/+/c', '+', '/+', 'devices/+/v1/data'];

describe('DeviceTopic', () => {
  it.each([
    ['devices/+/data', 'devices/device_123/data', 'device_123'],
    ['+/data', 'x/data', 'x'],
    ['a/+', 'a/x', 'x'],
    ['a/b/+/c', 'a/b/x/c', 'x'],
    ['+', 'x', 'x'],
    ['devices/+/data', 'devices/data/data', 'data'],
  ])('%s finds in %s the device %s', (filter, topic, id) => {
    expect(new DeviceTopic(filter).deviceIdOf(topic)).toBe(id);
  });

  it.each([
    ['devices/+/data', 'devices/x/status'],
    ['devices/+/data', 'devices/x/y/data'],
    ['devices/+/data', 'devices/data'],
    ['devices/+/data', 'Devices/x/data'],
    ['devices/+/data', 'prefix/devices/x/data'],
    ['devices/+/data', 'devices/x/data/more'],
    ['+/data', 'a/b/data'],
    ['a/+', 'a'],
    ['a/+', 'a/b/c'],
    ['a/b/+/c', 'a/b/c'],
    ['a/b/+/b/c', 'a/b/c'],
  ])('%s finds none in %s', (filter, topic) => {
    expect(new DeviceTopic(filter).deviceIdOf(topic)).toBeNull();
  });

  it('finds every device in the topic made for it', () => {
    const level = fc.string().filter((text) => !text.includes('/'));
    fc.assert(
      fc.property(fc.constantFrom(...FILTERS), level, (filter, id) => {
        const topic = new DeviceTopic(filter);
        expect(topic.deviceIdOf(topic.of(id))).toBe(id);
      }),
    );
  });

  it('finds a device only where MQTT would match the filter', () => {
    const topics = fc
      .array(fc.constantFrom('a', 'b', 'c', 'data', 'devices', 'x', ''), { minLength: 1, maxLength: 5 })
      .map((levels) => levels.join('/'));
    fc.assert(
      fc.property(fc.constantFrom(...FILTERS), topics, (filter, topic) => {
        const matches = new RegExp(`^${filter.replace('+', '[^/]*')}$`).test(topic);
        expect(new DeviceTopic(filter).deviceIdOf(topic) !== null).toBe(matches);
      }),
    );
  });
});

describe('filterMatches', () => {
  // MQTT 5, sections 4.7.1 and 4.7.2, with their examples.
  it.each([
    ['devices/d/commands', 'devices/d/commands', true],
    ['devices/d/commands', 'devices/d/command', false],
    ['devices/d', 'devices/d/commands', false],
    ['devices/d/commands', 'devices/d', false],
    ['sport/tennis/player1/#', 'sport/tennis/player1', true],
    ['sport/tennis/player1/#', 'sport/tennis/player1/score/wimbledon', true],
    ['sport/tennis/player1/#', 'sport/tennis/player2', false],
    ['#', 'sport/tennis', true],
    ['sport/tennis/+', 'sport/tennis/player1', true],
    ['sport/tennis/+', 'sport/tennis/player1/ranking', false],
    ['sport/+', 'sport', false],
    ['sport/+', 'sport/', true],
    ['+/+', '/finance', true],
    ['/+', '/finance', true],
    ['+', '/finance', false],
    ['#', '$SYS/uptime', false],
    ['+/uptime', '$SYS/uptime', false],
    ['$SYS/#', '$SYS/uptime', true],
  ])('%s, published on %s: %s', (filter, topic, matches) => {
    expect(filterMatches(filter, topic)).toBe(matches);
  });
});
