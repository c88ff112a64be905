import fc from 'fast-check';
import { generate, parser, type IPublishPacket, type Packet } from 'mqtt-packet';
import {
  MalformedFrameError,
  PublishFrames,
  replyToPubrel,
  repliesOf,
  type Publish,
} from './publish-frames.js';
import { correlationDataOf } from './publish-properties.js';

/** Reads a stream of bytes in the given pieces. */
function readAll(
  version: 4 | 5,
  bytes: Buffer,
  cuts: readonly number[],
): { publishes: Publish[]; others: Buffer[] } {
  const publishes: Publish[] = [];
  const others: Buffer[] = [];
  const frames = new PublishFrames(
    version,
    (publish) => publishes.push({ ...publish, payload: Buffer.from(publish.payload) }),
    (packet) => others.push(Buffer.from(packet)),
  );
  const at = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  for (const to of [...at, bytes.length]) {
    // A copy: what is kept must not depend on the reader's buffer.
    frames.read(Buffer.from(bytes.subarray(from, to)));
    from = to;
  }
  return { publishes, others };
}

const publish = fc.record({
  topic: fc.string({ minLength: 1, maxLength: 300, unit: 'grapheme' }).filter((text) => !/[+#\0]/.test(text)),
  payload: fc.uint8Array({ maxLength: 20_000 }).map((bytes) => Buffer.from(bytes)),
  qos: fc.constantFrom(0 as const, 1 as const, 2 as const),
  dup: fc.boolean(),
  retain: fc.boolean(),
  messageId: fc.integer({ min: 1, max: 65_535 }),
  properties: fc.record(
    {
      messageExpiryInterval: fc.nat(100_000),
      contentType: fc.string({ minLength: 1, maxLength: 200 }),
      correlationData: fc.uint8Array({ minLength: 1, maxLength: 50 }).map((bytes) => Buffer.from(bytes)),
      userProperties: fc.dictionary(
        fc.string({ minLength: 1, maxLength: 10 }),
        fc.string({ maxLength: 30 }),
        { minKeys: 1 },
      ),
    },
    { requiredKeys: [] },
  ),
});

const other = fc.constantFrom<Packet>(
  { cmd: 'pingresp' },
  { cmd: 'puback', messageId: 7 },
  { cmd: 'suback', messageId: 1, granted: [1, 1, 128] },
  { cmd: 'pubrel', messageId: 3 },
);

describe.each([4, 5] as const)('PublishFrames, protocol version %i', (version) => {
  const encode = (packet: Packet): Buffer => generate(packet, { protocolVersion: version });

  it('reads what a packet library writes, however the bytes are cut, and passes the rest on as it is', () => {
    const stream = fc.array(fc.oneof({ weight: 3, arbitrary: publish }, other), { maxLength: 12 });
    fc.assert(
      fc.property(stream, fc.array(fc.nat(100_000), { maxLength: 20 }), (items, cuts) => {
        const packets = items.map((item): Packet => ('cmd' in item ? item : { cmd: 'publish', ...item }));
        const { publishes, others } = readAll(version, Buffer.concat(packets.map(encode)), cuts);
        const expected = packets.filter((packet): packet is IPublishPacket => packet.cmd === 'publish');
        expect(
          publishes.map(({ properties, ...rest }) => ({
            ...rest,
            correlation: properties && correlationDataOf(properties),
          })),
        ).toEqual(
          expected.map((packet) => ({
            topic: packet.topic,
            payload: packet.payload,
            packetId: packet.qos > 0 ? packet.messageId : 0,
            reply:
              (packet.qos === 2 ? 0x5002_0000 : 0x4002_0000) + (packet.qos > 0 ? (packet.messageId ?? 0) : 0),
            duplicate: packet.dup,
            retained: packet.retain,
            correlation: (version === 5 && packet.properties?.correlationData?.toString()) || null,
          })),
        );
        expect(Buffer.concat(others)).toEqual(
          Buffer.concat(packets.filter((packet) => !expected.includes(packet as IPublishPacket)).map(encode)),
        );
      }),
    );
  });

  it('reads a packet that comes byte by byte', () => {
    const bytes = encode({
      cmd: 'publish',
      topic: 'devices/a/data',
      payload: 'x'.repeat(300),
      qos: 1,
      messageId: 258,
      dup: true,
      retain: false,
    });
    const { publishes } = readAll(version, bytes, Array.from(bytes.keys()));
    expect(publishes).toEqual([
      {
        topic: 'devices/a/data',
        payload: Buffer.from('x'.repeat(300)),
        packetId: 258,
        reply: 0x4002_0102,
        duplicate: true,
        retained: false,
        properties: null,
      },
    ]);
  });

  it('never does anything else with bytes than read, wait or call them malformed', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.array(fc.nat(400)), (bytes, cuts) => {
        try {
          readAll(version, Buffer.from(bytes), cuts);
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedFrameError);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it.each([
    ['a length of more than 4 bytes', [0x30, 0xff, 0xff, 0xff, 0xff, 0x01]],
    ['no topic', [0x30, 0x01, 0x00]],
    ['a topic longer than the packet', [0x30, 0x03, 0x00, 0x05, 0x61]],
    ['no packet id', [0x32, 0x04, 0x00, 0x01, 0x61, 0x00]],
    ['the packet id 0', [0x32, 0x06, 0x00, 0x01, 0x61, 0x00, 0x00, 0x00]],
  ])('calls %s malformed', (_what, bytes) => {
    expect(() => readAll(version, Buffer.from(bytes), [])).toThrow(MalformedFrameError);
  });
});

describe('PublishFrames, protocol version 5', () => {
  it.each([
    ['no length', [0x30, 0x03, 0x00, 0x01, 0x61]],
    ['a length of more than 4 bytes', [0x30, 0x08, 0x00, 0x01, 0x61, 0xff, 0xff, 0xff, 0xff, 0x01]],
    ['more than the packet', [0x30, 0x04, 0x00, 0x01, 0x61, 0x05]],
  ])('calls properties with %s malformed', (_what, bytes) => {
    expect(() => readAll(5, Buffer.from(bytes), [])).toThrow(MalformedFrameError);
  });
});

describe.each([4, 5] as const)('answers, protocol version %i', (version) => {
  const read = (bytes: Buffer): Packet[] => {
    const packets: Packet[] = [];
    const reader = parser({ protocolVersion: version });
    reader.on('packet', (packet) => packets.push(packet));
    reader.parse(bytes);
    return packets;
  };
  const answersTo = (qos: 1 | 2, ids: readonly number[]): Packet[] => {
    const bytes = ids.map((messageId) =>
      generate(
        { cmd: 'publish', topic: 'a', payload: 'x', qos, messageId, dup: false, retain: false },
        { protocolVersion: version },
      ),
    );
    const { publishes } = readAll(version, Buffer.concat(bytes), []);
    return read(repliesOf(publishes.map(({ reply }) => reply)));
  };

  it.each([
    [1 as const, 'puback'],
    [2 as const, 'pubrec'],
  ])('to QoS %i are %s, read as success by a packet library', (qos, cmd) => {
    const ids = [1, 255, 256, 65_535];
    const answers = answersTo(qos, ids);
    expect(answers.map((packet) => [packet.cmd, packet.messageId])).toEqual(ids.map((id) => [cmd, id]));
    expect(answers.every((packet) => !('reasonCode' in packet) || (packet.reasonCode ?? 0) === 0)).toBe(true);
  });

  it('to a PUBREL are PUBCOMPs; nothing else is a PUBREL', () => {
    const pubrel = generate({ cmd: 'pubrel', messageId: 258 }, { protocolVersion: version });
    expect(read(replyToPubrel(pubrel) ?? Buffer.alloc(0))).toEqual([
      expect.objectContaining({ cmd: 'pubcomp', messageId: 258 }),
    ]);
    const puback = generate({ cmd: 'puback', messageId: 258 }, { protocolVersion: version });
    expect(replyToPubrel(puback)).toBeNull();
  });
});
