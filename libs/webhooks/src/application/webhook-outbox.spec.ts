import { EventBus, type DomainEvent } from '#kernel';
import type { Webhook } from '../domain/webhook.js';
import type { DeliveryRepository, NewDelivery } from '../ports/delivery.repository.js';
import type { WebhookRepository } from '../ports/webhook.repository.js';
import { WebhookDirectory } from './webhook-directory.js';
import type { WebhookDispatcher } from './webhook-dispatcher.js';
import { WebhookOutbox } from './webhook-outbox.js';

const HOOK: Webhook = {
  webhookId: 'hook',
  tenant: 'default',
  url: 'https://ward.example/',
  events: ['device.data.received'],
  deviceIds: null,
  patientIds: null,
  metricTypes: null,
  active: true,
  disabledReason: null,
  createdBy: 'somebody',
  createdAt: new Date(0),
  updatedAt: new Date(0),
};

const event = (id: string, more: Partial<DomainEvent> = {}): DomainEvent => ({
  id,
  type: 'device.data.received',
  deviceId: 'device_123',
  tenant: 'default',
  patientId: 1,
  time: '2024-01-23T10:30:00.000Z',
  data: {},
  ...more,
});

/** An outbox whose rows are stored when the test says so. */
function stage(hooks: readonly Webhook[]) {
  const webhooks = {
    version: () => Promise.resolve('1'),
    active: () =>
      Promise.resolve({ version: '1', webhooks: hooks.map((webhook) => ({ webhook, key: null })) }),
  } as unknown as WebhookRepository;
  const begun: string[][] = [];
  const ends: { resolve: () => void; reject: (error: Error) => void }[] = [];
  const deliveries = {
    add: (lot: readonly NewDelivery[]) => {
      begun.push(lot.map((delivery) => delivery.event.id));
      return new Promise<void>((resolve, reject) => ends.push({ resolve, reject }));
    },
  } as unknown as DeliveryRepository;
  const woken: string[][] = [];
  const dispatcher = {
    wake: (ids: Iterable<string>) => woken.push([...ids]),
  } as unknown as WebhookDispatcher;
  const directory = new WebhookDirectory(webhooks);
  const bus = new EventBus(() => undefined);
  const outbox = new WebhookOutbox(directory, deliveries, dispatcher, bus);
  return { outbox, directory, bus, begun, ends, woken };
}

const turns = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
};

describe('events and the queues of webhooks', () => {
  it('have nothing to do with each other where no webhook wants them', async () => {
    const { directory, bus, begun } = stage([HOOK]);
    await directory.refresh();
    await bus.publish([event('1', { type: 'device.connected' }), event('2', { tenant: 'north' })]);
    expect(begun).toEqual([]);
  });

  it('let nobody go on before they are committed', async () => {
    const { directory, bus, begun, ends, woken } = stage([HOOK]);
    await directory.refresh();
    let isTold = false;
    const told = bus
      .publish([event('1'), event('2', { type: 'device.connected' })])
      .then(() => (isTold = true));
    await turns();
    expect([begun, isTold, woken]).toEqual([[['1']], false, []]);
    ends[0]?.resolve();
    await told;
    expect(woken).toEqual([['hook']]);
  });

  it('are not overtaken by what comes after, when they could not be committed at once', async () => {
    const { directory, bus, begun, ends } = stage([HOOK]);
    await directory.refresh();
    const told = Promise.all([bus.publish([event('1')]), bus.publish([event('2')])]);
    await turns();
    ends[0]?.reject(new Error('no database'));
    while (begun.length < 2) await new Promise((resolve) => setImmediate(resolve));
    ends[1]?.resolve();
    await turns();
    ends[2]?.resolve();
    await told;
    expect(begun).toEqual([['1'], ['1'], ['2']]);
  });

  it('are given up when the service is to stop and the database is away: whoever tells of them hears of it', async () => {
    const { directory, bus, begun, ends, outbox } = stage([HOOK]);
    await directory.refresh();
    const told = bus.publish([event('1')]);
    await turns();
    outbox.beforeApplicationShutdown();
    ends[0]?.reject(new Error('no database'));
    await expect(told).rejects.toThrow('no database');
    expect(begun).toEqual([['1']]);
  });

  it('keep the order in which they were told, before the webhooks are known and after', async () => {
    const { bus, begun, ends } = stage([HOOK]);
    const told = [bus.publish([event('1')]), bus.publish([event('2')])];
    await turns();
    told.push(bus.publish([event('3')]));
    for (let number = 0; number < 3; number += 1) {
      await turns();
      expect(begun).toHaveLength(number + 1);
      ends[number]?.resolve();
    }
    await Promise.all(told);
    expect(begun).toEqual([['1'], ['2'], ['3']]);
  });
});
