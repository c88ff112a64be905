import fc from 'fast-check';
import { generate, parser, type IPublishPacket } from 'mqtt-packet';
import { PublishFrames } from './publish-frames.js';
import { LASTING, PASSING, PublishLane } from './publish-lane.js';
import { correlationDataOf, encodeProperties } from './publish-properties.js';

/** A connection's other end: what was written, read by a packet library. */
function broker(version: 4 | 5): { received: IPublishPacket[]; write: (frames: Buffer) => void } {
  const received: IPublishPacket[] = [];
  const reader = parser({ protocolVersion: version });
  reader.on('packet', (packet) => received.push(packet as IPublishPacket));
  return { received, write: (frames) => void reader.parse(frames) };
}

const numbered = (count: number, from = 0): { topic: string; payload: string }[] =>
  Array.from({ length: count }, (_, index) => ({ topic: `t/${from + index}`, payload: `${from + index}` }));

describe.each([4, 5] as const)('PublishLane, protocol version %i', (version) => {
  it('writes what a packet library reads', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            topic: fc
              .string({ minLength: 1, maxLength: 200, unit: 'grapheme' })
              .filter((t) => !/[+#\0]/.test(t)),
            payload: fc.string({ maxLength: 40_000, unit: 'grapheme' }),
          }),
          { maxLength: 20 },
        ),
        (messages) => {
          const lane = new PublishLane(version);
          const { received, write } = broker(version);
          lane.connected(1_000, write);
          lane.publish(messages).catch(() => undefined);
          expect(received.map(({ topic, payload }) => ({ topic, payload: payload.toString() }))).toEqual(
            messages,
          );
          for (const packet of received) expect(packet).toMatchObject({ qos: 1, dup: false, retain: false });
          expect(new Set(received.map(({ messageId }) => messageId)).size).toBe(received.length);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('has no more under way than the broker accepts, and goes on as it acknowledges', async () => {
    const lane = new PublishLane(version);
    const { received, write } = broker(version);
    lane.connected(3, write);
    let done = false;
    const published = lane.publish(numbered(5)).then(() => (done = true));
    expect(received.map(({ topic }) => topic)).toEqual(['t/0', 't/1', 't/2']);
    expect(lane.waiting).toBe(5);
    const ack = (index: number): void => void lane.acknowledged(received[index]?.messageId ?? 0, 0);
    ack(1);
    lane.pump();
    expect(received).toHaveLength(4);
    for (const index of [0, 2, 3]) ack(index);
    lane.pump();
    expect(done).toBe(false);
    ack(4);
    await published;
    expect(lane.waiting).toBe(0);
  });

  it('sends again on the next connection what was not acknowledged, first and in order', async () => {
    const lane = new PublishLane(version);
    const first = broker(version);
    const all = lane.publish(numbered(4));
    lane.connected(3, first.write);
    lane.acknowledged(first.received[1]?.messageId ?? 0, 0);
    lane.disconnected();
    const later = lane.publish(numbered(1, 4));
    const second = broker(version);
    lane.connected(10, second.write);
    expect(second.received.map(({ topic }) => topic)).toEqual(['t/0', 't/2', 't/3', 't/4']);
    for (const { messageId } of second.received) lane.acknowledged(messageId ?? 0, 0);
    await Promise.all([all, later]);
  });

  it('leaves acknowledgements of others alone, and ignores those it does not wait for', () => {
    const lane = new PublishLane(version);
    expect(lane.acknowledged(LASTING.firstId - 1, 0)).toBe(false);
    expect(lane.acknowledged(LASTING.firstId, 0)).toBe(true);
  });

  it('fails what the broker refuses', async () => {
    const lane = new PublishLane(version);
    const { received, write } = broker(version);
    lane.connected(10, write);
    const refused = lane.publish(numbered(2));
    lane.acknowledged(received[0]?.messageId ?? 0, 0x87);
    await expect(refused).rejects.toThrow('refused a message (reason 87)');
  });

  it('sends less of what is larger than the broker accepts, also of what waited for it', async () => {
    const unsendable = jest.fn();
    const lane = new PublishLane(version, unsendable);
    const { received, write } = broker(version);
    const rooms: number[] = [];
    const large = {
      topic: 't/large',
      payload: 'x'.repeat(1_000),
      reduced: (maxBytes: number) => {
        rooms.push(maxBytes);
        return 'r'.repeat(maxBytes);
      },
    };
    const published = lane.publish([
      large,
      { topic: 't/hopeless', payload: 'x'.repeat(1_000) },
      ...numbered(1),
    ]);
    lane.connected(10, write, 200);
    expect(received.map(({ topic }) => topic)).toEqual(['t/large', 't/0']);
    expect(received[0]?.payload).toHaveLength(rooms[0] ?? 0);
    expect(unsendable).toHaveBeenCalledTimes(1);
    for (const { messageId } of received) lane.acknowledged(messageId ?? 0, 0);
    await published;
    expect(lane.waiting).toBe(0);
  });

  it('gives up what waits when it is closed', async () => {
    const lane = new PublishLane(version);
    lane.connected(1, () => undefined);
    const waiting = lane.publish(numbered(2));
    lane.close();
    await expect(waiting).rejects.toThrow('being closed');
    await expect(lane.publish(numbered(1))).rejects.toThrow('being closed');
    expect(lane.waiting).toBe(0);
  });

  it('never gives out a packet id that is under way', () => {
    const lane = new PublishLane(version);
    const { received, write } = broker(version);
    lane.connected(100, write);
    // The first stays under way while the ids go once round.
    void lane.publish(numbered(1)).catch(() => undefined);
    const [first] = received;
    for (let index = 1; index <= 70_000; index += 1) {
      received.length = 0;
      void lane.publish(numbered(1, index)).catch(() => undefined);
      const id = received[0]?.messageId ?? 0;
      if (id === first?.messageId || id < LASTING.firstId) throw new Error(`id ${id} given out at ${index}`);
      lane.acknowledged(id, 0);
    }
  });
});

describe.each([4, 5] as const)('a PublishLane that keeps nothing, protocol version %i', (version) => {
  const laneOf = (onUnsendable?: () => void): PublishLane => new PublishLane(version, onUnsendable, PASSING);

  it('says of each message whether the broker has taken it, and whether anybody gets it', async () => {
    const lane = laneOf();
    const { received, write } = broker(version);
    lane.connected(2, write);
    const outcome = lane.publishEach(numbered(4));
    lane.acknowledged(received[0]?.messageId ?? 0, 0);
    lane.acknowledged(received[1]?.messageId ?? 0, 0x87);
    lane.pump();
    lane.acknowledged(received[2]?.messageId ?? 0, 0x10);
    lane.disconnected();
    expect(await outcome).toEqual([
      { kind: 'taken' },
      { kind: 'refused', reason: 0x87 },
      { kind: 'unheard' },
      { kind: 'unanswered', alone: true },
    ]);
  });

  it('sends nothing on a later connection, and nothing without one', async () => {
    const lane = laneOf();
    await expect(lane.publishEach(numbered(1))).rejects.toThrow('no connection');
    const first = broker(version);
    lane.connected(1, first.write);
    const outcome = lane.publishEach(numbered(2));
    lane.disconnected();
    const second = broker(version);
    lane.connected(10, second.write);
    expect(await outcome).toEqual([{ kind: 'unanswered', alone: true }, { kind: 'unsent' }]);
    expect(second.received).toEqual([]);
    expect(lane.waiting).toBe(0);
  });

  it('holds nothing beyond its time while the window is full', async () => {
    const lane = new PublishLane(version, undefined, PASSING);
    const { received, write } = broker(version);
    lane.connected(1, write);
    let lapsed = false;
    const messages = numbered(3).map((message, index) => ({
      ...message,
      get lapsed(): boolean {
        return lapsed && index < 2;
      },
    }));
    const outcomes = lane.publishEach(messages);
    expect(received).toHaveLength(1);
    lapsed = true;
    for (const index of [0, 1]) {
      lane.acknowledged(received[index]?.messageId ?? 0, 0);
      lane.pump();
    }
    expect(await outcomes).toEqual([{ kind: 'taken' }, { kind: 'unsent' }, { kind: 'taken' }]);
    expect(received.map(({ topic }) => topic)).toEqual(['t/0', 't/2']);
  });

  it('says whether others were waiting for an answer too when the connection ended', async () => {
    const lane = laneOf();
    const { write } = broker(version);
    for (const [count, others] of [
      [2, 0],
      [1, 1],
    ] as const) {
      lane.connected(10, write);
      const outcome = lane.publishEach(numbered(count));
      lane.disconnected(others);
      expect(await outcome).toEqual(Array(count).fill({ kind: 'unanswered', alone: false }));
    }
  });

  it('refuses what is larger than the broker accepts', async () => {
    let unsendable = 0;
    const lane = laneOf(() => (unsendable += 1));
    const { received, write } = broker(version);
    lane.connected(10, write, 50);
    const outcome = lane.publishEach([{ topic: 't', payload: 'x'.repeat(100) }, ...numbered(1)]);
    lane.acknowledged(received[0]?.messageId ?? 0, 0);
    expect({ outcome: await outcome, unsendable }).toEqual({
      outcome: [{ kind: 'too_large', maxBytes: 50 }, { kind: 'taken' }],
      unsendable: 1,
    });
  });

  it('gives out ids that are not those of the other lane', () => {
    const lane = laneOf();
    const lasting = new PublishLane(version);
    const { received, write } = broker(version);
    lane.connected(30_000, write);
    lasting.connected(30_000, write);
    void lane.publishEach(numbered(16_000));
    void lasting.publish(numbered(16_000));
    expect(new Set(received.map(({ messageId }) => messageId)).size).toBe(32_000);
    const claimed = received.map(({ messageId = 0 }) =>
      [lane, lasting].filter((each) => each.acknowledged(messageId, 0)),
    );
    expect(claimed.filter((lanes) => lanes.length !== 1)).toEqual([]);
  });
});

describe('properties', () => {
  it('are written as a packet library reads them', () => {
    const text = fc.string({ maxLength: 300, unit: 'grapheme' }).filter((value) => !value.includes('\0'));
    fc.assert(
      fc.property(
        fc.record({
          messageExpiryInterval: fc.integer({ min: 1, max: 0xffff_ffff }),
          contentType: text,
          responseTopic: text.filter((value) => value !== '' && !/[+#]/.test(value)),
          correlationData: text,
          userProperties: fc.dictionary(
            text.filter((name) => name !== '__proto__'),
            text,
            { maxKeys: 3 },
          ),
        }),
        fc.string({ maxLength: 300 }),
        (properties, payload) => {
          const lane = new PublishLane(5);
          const { received, write } = broker(5);
          lane.connected(1, write);
          void lane.publish([{ topic: 't', payload, properties: encodeProperties(properties) }]);
          const [packet] = received;
          expect(packet?.payload.toString()).toBe(payload);
          const { userProperties, ...others } = packet?.properties ?? {};
          expect(others).toEqual({
            payloadFormatIndicator: true,
            messageExpiryInterval: properties.messageExpiryInterval,
            contentType: properties.contentType,
            responseTopic: properties.responseTopic,
            correlationData: Buffer.from(properties.correlationData),
          });
          expect({ ...userProperties }).toEqual({ ...properties.userProperties });
          expect(correlationDataOf(encodeProperties(properties))).toBe(properties.correlationData);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('tell their correlation data wherever it stands among the others', () => {
    const others = {
      payloadFormatIndicator: true,
      messageExpiryInterval: 7,
      topicAlias: 3,
      responseTopic: 'r',
      userProperties: { a: 'b', c: ['d', 'e'] },
      subscriptionIdentifier: 300,
      contentType: 'c',
    };
    for (const properties of [others, { ...others, correlationData: Buffer.from('id-1') }]) {
      const packet = generate(
        { cmd: 'publish', topic: 't', payload: '', qos: 0, dup: false, retain: false, properties },
        { protocolVersion: 5 },
      );
      let found: Buffer | null = null;
      new PublishFrames(
        5,
        (publish) => (found = publish.properties),
        () => undefined,
      ).read(packet);
      expect(correlationDataOf(found ?? Buffer.alloc(0))).toBe(
        'correlationData' in properties ? 'id-1' : null,
      );
    }
  });

  it('that are malformed tell none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const found = correlationDataOf(Buffer.from(bytes));
        return found === null || typeof found === 'string';
      }),
    );
    expect(correlationDataOf(Buffer.of(9, 0))).toBeNull();
    expect(correlationDataOf(Buffer.of(9, 0, 5, 1))).toBeNull();
  });
});
