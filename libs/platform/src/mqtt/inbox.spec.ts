import { Logger } from '@nestjs/common';
import {
  EventBus,
  Quarantine,
  UnitOfWork,
  type DomainEvent,
  type RejectedMessage,
  type Transaction,
} from '#kernel';
import type { Delivery } from './delivery.js';
import { Inbox, type InboxItem, type StoreItems } from './inbox.js';

const RECEIVED = new Date('2024-01-23T10:30:00.000Z');

class Kept extends Quarantine {
  readonly messages: RejectedMessage[] = [];

  add(_transaction: Transaction, messages: readonly RejectedMessage[]): Promise<void> {
    return Promise.resolve(void this.messages.push(...messages));
  }
}

class Direct extends UnitOfWork {
  run<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    return work({} as Transaction);
  }
}

interface Item extends InboxItem {
  readonly name: string;
}

describe('Inbox', () => {
  let quarantine: Kept;
  let bus: EventBus;
  let inbox: Inbox;
  let acknowledged: string[];
  let stored: string[];

  const item = (name: string, about: Partial<InboxItem> = {}): Item => ({
    name,
    delivery: {
      topic: 'devices/device_1/data',
      deviceId: 'device_1',
      payload: Buffer.from(name),
      packetId: 1,
      duplicate: false,
      retained: false,
      mayBeElsewhere: false,
      mayHaveWaited: false,
      ack: () => acknowledged.push(name),
    } satisfies Delivery,
    receivedAt: RECEIVED,
    namedDevice: 'device_1',
    distinctBy: null,
    ...about,
  });
  const event = (id: string): DomainEvent => ({
    id,
    type: 'device.data.received',
    deviceId: 'device_1',
    tenant: 'default',
    patientId: 1,
    time: RECEIVED.toISOString(),
    data: {},
  });
  /** Stores items, unless one of them is there that makes it fail. */
  const storeBut =
    (bad: string, failure: () => Error): StoreItems<Item> =>
    (items) => {
      if (items.some(({ name }) => name === bad)) return Promise.reject(failure());
      stored.push(...items.map(({ name }) => name));
      return Promise.resolve(items.map(({ name }) => event(name)));
    };

  beforeEach(() => {
    quarantine = new Kept();
    bus = new EventBus(() => undefined);
    inbox = new Inbox(new Direct(), quarantine, bus);
    acknowledged = [];
    stored = [];
  });

  it.each([
    ['a value the database refuses', Object.assign(new Error('secret'), { code: '22P02' }), 'SQLSTATE 22P02'],
    ['a RangeError', new RangeError('secret'), 'RangeError'],
    ['a TypeError', new TypeError('secret'), 'TypeError'],
    ['a SyntaxError', new SyntaxError('secret'), 'SyntaxError'],
    [
      'too long a string',
      Object.assign(new Error('secret'), { code: 'ERR_STRING_TOO_LONG' }),
      'ERR_STRING_TOO_LONG',
    ],
  ])('quarantines the one message that fails by %s, and stores the others', async (_what, failure, why) => {
    const items = ['a', 'b', 'bad', 'c', 'd'].map((name) => item(name));
    await inbox.process(
      items,
      storeBut('bad', () => failure),
    );
    expect(stored.sort()).toEqual(['a', 'b', 'c', 'd']);
    expect(quarantine.messages).toEqual([
      expect.objectContaining({ reason: 'invalid_payload', deviceId: 'device_1', receivedAt: RECEIVED }),
    ]);
    expect(quarantine.messages[0]?.detail).toContain(why);
    expect(quarantine.messages[0]?.detail).not.toContain('secret');
    expect(acknowledged).toEqual(['a', 'b', 'bad', 'c', 'd']);
  });

  it('goes on trying where waiting may help, also after a defect that passes', async () => {
    const failures = [Object.assign(new Error(), { code: 'XX000' }), new TypeError('for a moment')];
    await inbox.process([item('a')], (items) => {
      const failure = failures.shift();
      return failure ? Promise.reject(failure) : storeBut('', Error)(items);
    });
    expect(stored).toEqual(['a']);
    expect(quarantine.messages).toEqual([]);
  });

  it('keeps equal messages apart by their dates, and one without a device as nobody’s', async () => {
    const later = new Date(RECEIVED.getTime() + 1);
    const items = [
      item('bad', { distinctBy: RECEIVED, namedDevice: null }),
      item('bad', { distinctBy: later }),
      item('bad'),
      item('bad'),
    ];
    await inbox.process(
      items,
      storeBut('bad', () => Object.assign(new Error(), { code: '23514' })),
    );
    const [first, second, ...dated] = quarantine.messages;
    expect(first).toMatchObject({ deviceId: null, receivedAt: RECEIVED });
    expect(second).toMatchObject({ deviceId: 'device_1', receivedAt: later });
    expect(new Set(quarantine.messages.map(({ messageId }) => messageId)).size).toBe(3);
    expect(dated[0]?.messageId).toBe(dated[1]?.messageId);
  });

  it('tells again only those who have not taken the events, says why, and acknowledges at last', async () => {
    const heard: string[] = [];
    bus.subscribe({ name: 'watcher', handle: (events) => void heard.push(...events.map(({ id }) => id)) });
    const failures = [new Error('the broker refused a message (reason 87)'), new SyntaxError('secret')];
    bus.subscribe({
      name: 'broker',
      handle: () => {
        expect(acknowledged).toEqual([]);
        const failure = failures.shift();
        return failure ? Promise.reject(failure) : Promise.resolve();
      },
    });
    const warnings = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    await inbox.process([item('a'), item('b')], storeBut('', Error));
    expect(heard).toEqual(['a', 'b']);
    expect(failures).toEqual([]);
    expect(acknowledged).toEqual(['a', 'b']);
    expect(warnings.mock.calls.flat()).toEqual([
      'Messages wait: the broker refused a message (reason 87); trying again until it works',
      'Messages wait: SyntaxError; trying again until it works',
    ]);
    warnings.mockRestore();
  });
});
