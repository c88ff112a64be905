import { messageId } from './message-id.js';

const payload = Buffer.from('{"metric_type":"glucose","value":99}');
const first = new Date('2024-01-23T10:30:00.000Z');
const id = messageId('devices/a/data', payload, null);

describe('messageId', () => {
  it('is the same each time a message is delivered', () => {
    expect(messageId('devices/a/data', Uint8Array.from(payload), null)).toBe(id);
    expect(messageId('devices/a/data', payload, first)).toBe(
      messageId('devices/a/data', payload, new Date(first)),
    );
    expect(id).toMatch(/^[\w-]{43}$/);
  });

  it.each<[string, string, Uint8Array, Date | null]>([
    ['topic', 'devices/b/data', payload, null],
    ['payload', 'devices/a/data', Buffer.from('{}'), null],
    ['date of the first receipt', 'devices/a/data', payload, first],
    ['border between topic and payload', 'devices/a/dat', Buffer.concat([Buffer.from('a'), payload]), null],
  ])('differs by the %s', (_what, topic, bytes, date) => {
    expect(messageId(topic, bytes, date)).not.toBe(id);
  });

  it('tells two receipts of equal undated messages apart', () => {
    const later = new Date(first.getTime() + 1);
    expect(messageId('devices/a/data', payload, first)).not.toBe(messageId('devices/a/data', payload, later));
  });
});
