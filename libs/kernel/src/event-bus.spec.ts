import { EventBus, eventData, type DomainEvent, type EventSubscriber, type EventType } from './event-bus.js';

function event(type: EventType, data: DomainEvent['data'] = {}): DomainEvent {
  const id = `${type}-${JSON.stringify(data)}`;
  return {
    id,
    type,
    deviceId: 'device_123',
    tenant: 'default',
    patientId: 1,
    time: '2024-01-23T10:30:00.000Z',
    data,
  };
}

const connected = event('device.connected');
const measured = event('device.data.received');
const disconnected = event('device.disconnected');

describe('EventBus', () => {
  const onFailure = jest.fn();
  let bus: EventBus;
  let heard: string[];

  /** Subscribes someone who writes down what it is told. */
  function listen(name: string, types?: readonly EventType[]): void {
    bus.subscribe({
      name,
      ...(types && { types }),
      handle: (events) => void heard.push(...events.map(({ type }) => `${name} ${type}`)),
    });
  }

  beforeEach(() => {
    onFailure.mockReset();
    bus = new EventBus(onFailure);
    heard = [];
  });

  it('tells subscribers in the order of subscription, events in their own order', async () => {
    listen('first');
    listen('second');
    await bus.publish([connected, measured]);
    expect(heard).toEqual([
      'first device.connected',
      'first device.data.received',
      'second device.connected',
      'second device.data.received',
    ]);
  });

  it('tells each only of the types it wants, and does not call one that wants none of them', async () => {
    const uninterested = jest.fn();
    bus.subscribe({ name: 'uninterested', types: ['command.sent'], handle: uninterested });
    listen('presence', ['device.connected', 'device.disconnected']);
    await bus.publish([connected, measured, disconnected]);
    expect(heard).toEqual(['presence device.connected', 'presence device.disconnected']);
    expect(uninterested).not.toHaveBeenCalled();
  });

  it('resolves only when every subscriber has taken the events', async () => {
    let take = (): void => undefined;
    bus.subscribe({ name: 'slow', handle: () => new Promise<void>((resolve) => (take = resolve)) });
    let published = false;
    const publishing = bus.publish([connected]).then(() => (published = true));
    await new Promise(setImmediate);
    expect(published).toBe(false);
    take();
    await publishing;
  });

  it.each([
    [
      'throws',
      (): never => {
        throw new Error('broken');
      },
    ],
    ['rejects', () => Promise.reject(new Error('broken'))],
  ])('tells the others when one %s, and passes its error on', async (_how, handle) => {
    listen('before');
    bus.subscribe({ name: 'broken', handle });
    listen('after');
    await expect(bus.publish([connected])).rejects.toThrow(new Error('broken'));
    expect(heard).toEqual(['before device.connected', 'after device.connected']);
  });

  it('passes the errors of several on together', async () => {
    bus.subscribe({ name: 'one', handle: () => Promise.reject(new Error('one')) });
    bus.subscribe({ name: 'two', handle: () => Promise.reject(new Error('two')) });
    await expect(bus.publish([connected])).rejects.toMatchObject({
      errors: [new Error('one'), new Error('two')],
    });
  });

  it('tells only those who have not taken the events yet, when it is tried again', async () => {
    let failures = 2;
    const handle = jest.fn(() => (failures-- > 0 ? Promise.reject(new Error('away')) : Promise.resolve()));
    listen('before');
    bus.subscribe({ name: 'slow', handle: () => Promise.resolve(void heard.push('slow')) });
    bus.subscribe({ name: 'away', handle });
    listen('after');
    const taken = new Set<EventSubscriber>();
    await expect(bus.publish([connected], taken)).rejects.toThrow('away');
    await expect(bus.publish([connected], taken)).rejects.toThrow('away');
    await bus.publish([connected], taken);
    expect(handle).toHaveBeenCalledTimes(3);
    expect(heard).toEqual(['before device.connected', 'slow', 'after device.connected']);
    await bus.publish([connected]);
    expect(heard).toHaveLength(6);
  });

  it('reports what an announced event fails with, to whom it was given', async () => {
    bus.subscribe({ name: 'broken', handle: () => Promise.reject(new Error('broken')) });
    bus.announce([connected]);
    await new Promise(setImmediate);
    expect(onFailure).toHaveBeenCalledWith(new Error('broken'));
  });
});

describe('eventData', () => {
  it("lets no field of a payload pass for the event's device or patient", () => {
    const forged = event('device.data.received', { patient_id: 2, device_id: 'other', systolic: 120 });
    expect(eventData(forged)).toEqual({ patient_id: 1, device_id: 'device_123', systolic: 120 });
  });
});
