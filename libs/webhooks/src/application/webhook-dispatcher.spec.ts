import { Logger } from '@nestjs/common';
import { SystemClock } from '#kernel';
import type { Attempt } from '../domain/delivery.js';
import type { ClaimedDelivery, DeliveryRepository } from '../ports/delivery.repository.js';
import type { WebhookRepository } from '../ports/webhook.repository.js';
import type { OutgoingWebhook, WebhookSender } from '../ports/webhook-sender.js';
import type { WebhookDirectory } from './webhook-directory.js';
import { WebhookDispatcher, type DispatchBounds } from './webhook-dispatcher.js';

const BOUNDS: DispatchBounds = {
  retry: { maxAttempts: 3, maxAgeMs: 60_000, baseMs: 1_000 },
  keeping: { maxPending: 10, maxKept: 10, maxAgeMs: 60_000, retentionMs: 60_000 },
  timeoutMs: 1_000,
  leaseMs: 5_000,
};
const TAKEN: Attempt = { taken: true, status: 200 };
const FAILED: Attempt = { taken: false, status: 500, failure: 'http_error' };

const delivery = (id: number, lane = 'device_1', more: Partial<ClaimedDelivery> = {}): ClaimedDelivery => ({
  id,
  messageId: `msg_${id}`,
  lane,
  body: '{}',
  attempts: 0,
  ageMs: 0,
  ...more,
});

interface StageOptions {
  readonly bounds?: DispatchBounds;
  readonly key?: Uint8Array | null;
  readonly pending?: number;
  /** Deliveries whose claim has lapsed. */
  readonly lost?: readonly number[];
}

/** A dispatcher that finds these deliveries once, and what it does with them. */
function stage(
  found: readonly ClaimedDelivery[],
  answer: (message: OutgoingWebhook) => Attempt | Promise<Attempt>,
  { bounds = BOUNDS, key = Buffer.alloc(32), pending = 0, lost = [] }: StageOptions = {},
) {
  const did: string[] = [];
  const switches = { isActive: true };
  let claims = 0;
  const note = (what: string): Promise<void> => Promise.resolve(void did.push(what));
  const deliveries = {
    claim: () => Promise.resolve((claims += 1) === 1 ? found : []),
    release: (_claim: string, ids: readonly number[]) => note(`release ${ids.join()}`),
    finish: (_claim: string, id: number, state: string, status: number | null, failure: string | null) =>
      note(`${state} ${id} ${String(status)} ${String(failure)}`).then(() => !lost.includes(id)),
    postpone: (_claim: string, id: number, behind: readonly number[]) =>
      note(`postpone ${id}, release ${behind.join()}`),
    renew: (_webhooks: readonly string[], _claims: readonly string[], ids: readonly number[]) =>
      note(`renew ${ids.join()}`).then(() => ids.filter((id) => !lost.includes(id))),
    body: (id: number) => note(`fetch ${id}`).then(() => '{}'),
    backlogs: () => Promise.resolve(new Map([['hook', pending]])),
    giveUpOldest: (_id: string, keep: number) => note(`keep ${keep}`).then(() => 1),
    sweep: () => Promise.resolve(0),
  } as unknown as DeliveryRepository;
  const directory = {
    find: () => (switches.isActive ? { webhook: { url: 'https://ward.example/' }, key } : undefined),
    refresh: () => Promise.resolve(),
  } as unknown as WebhookDirectory;
  const webhooks = {
    disable: (id: string) => note(`disable ${id}`),
    note: () => Promise.resolve(),
  } as unknown as WebhookRepository;
  const sender = {
    send: (message: OutgoingWebhook) => {
      did.push(`send ${message.messageId}`);
      return Promise.resolve(answer(message));
    },
    close: () => undefined,
  } as unknown as WebhookSender;
  const dispatcher = new WebhookDispatcher(
    directory,
    webhooks,
    deliveries,
    sender,
    bounds,
    new SystemClock(),
  );
  const served = async (): Promise<readonly string[]> => {
    dispatcher.wake(['hook']);
    for (let turn = 0; turn < 100; turn += 1) await Promise.resolve();
    return did;
  };
  return { dispatcher, served, did, switches };
}

describe('a lane', () => {
  it('is sent from front to back', async () => {
    expect(await stage([delivery(1), delivery(2)], () => TAKEN).served()).toEqual([
      'send msg_1',
      'delivered 1 200 null',
      'send msg_2',
      'delivered 2 200 null',
    ]);
  });

  it('waits behind what failed, given back at once with it, and no other lane does', async () => {
    const { served } = stage([delivery(1), delivery(2), delivery(3, 'device_2')], ({ messageId }) =>
      messageId === 'msg_1' ? FAILED : TAKEN,
    );
    const did = await served();
    expect(did.filter((each) => each.startsWith('send'))).toEqual(['send msg_1', 'send msg_3']);
    expect(did).toContain('postpone 1, release 2');
    expect(did).not.toContain('release 2');
  });

  it('goes on behind what is given up', async () => {
    const { served, dispatcher } = stage(
      [delivery(1, 'device_1', { attempts: 2 }), delivery(2)],
      ({ messageId }) => (messageId === 'msg_1' ? FAILED : TAKEN),
    );
    expect(await served()).toEqual([
      'send msg_1',
      'dead 1 500 http_error',
      'send msg_2',
      'delivered 2 200 null',
    ]);
    expect(dispatcher.totals).toEqual({ delivered: 1, failed: 1, dead: 1 });
  });

  it('ends where its receiver is gone', async () => {
    const gone: Attempt = { taken: false, status: 410, failure: 'gone' };
    expect(await stage([delivery(1), delivery(2)], () => gone).served()).toEqual([
      'send msg_1',
      'dead 1 410 gone',
      'disable hook',
      'release 2',
    ]);
  });

  it('is given back unsent when the service is to stop', async () => {
    const { served, dispatcher } = stage([delivery(1), delivery(2)], () => {
      void dispatcher.drain();
      return TAKEN;
    });
    expect(await served()).toEqual(['send msg_1', 'delivered 1 200 null', 'release 2']);
  });

  it('is given back unsent when its webhook was switched off meanwhile', async () => {
    const { served, switches } = stage([delivery(1), delivery(2)], () => {
      switches.isActive = false;
      return TAKEN;
    });
    expect(await served()).toEqual(['send msg_1', 'delivered 1 200 null', 'release 2']);
  });

  it('is given back unsent when an attempt could outlast the claim: another may have it by then', async () => {
    const { served } = stage([delivery(1)], () => TAKEN, { bounds: { ...BOUNDS, leaseMs: 900 } });
    expect(await served()).toEqual(['release 1']);
  });

  it('is not sent on once the claim was found lapsed: another has it', async () => {
    const { served } = stage([delivery(1), delivery(2), delivery(3)], () => TAKEN, { lost: [2] });
    expect(await served()).toEqual([
      'send msg_1',
      'delivered 1 200 null',
      'send msg_2',
      'delivered 2 200 null',
      'release 3',
    ]);
  });

  it('is not sent on where the claim could not be renewed, and is where it could', async () => {
    const answers: ((attempt: Attempt) => void)[] = [];
    const { dispatcher, served, did } = stage(
      [delivery(1), delivery(2), delivery(3, 'device_2'), delivery(4, 'device_2')],
      () => new Promise((resolve) => answers.push(resolve)),
      { lost: [2] },
    );
    await served();
    await dispatcher.tidy();
    for (const answer of answers) answer(TAKEN);
    await served();
    expect(did.filter((each) => each.startsWith('send'))).toEqual(['send msg_1', 'send msg_3', 'send msg_4']);
    expect(did).toContain('release 2');
    answers.at(-1)?.(TAKEN);
  });

  it('is fetched when it is sent, where it is large', async () => {
    const { served } = stage([delivery(1, 'device_1', { body: null }), delivery(2)], () => TAKEN);
    expect((await served()).filter((each) => !each.startsWith('delivered'))).toEqual([
      'fetch 1',
      'send msg_1',
      'send msg_2',
    ]);
  });

  it('is not sent unsigned when its secret can not be read', async () => {
    const { served } = stage([delivery(1, 'device_1', { attempts: 2 })], () => TAKEN, { key: null });
    expect(await served()).toEqual(['dead 1 null secret_unreadable']);
  });

  it('is recorded as soon as the database is there again', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const { dispatcher, did } = stage([delivery(1)], () => TAKEN);
    const { deliveries } = dispatcher as unknown as { deliveries: { finish: () => Promise<boolean> } };
    const { finish } = deliveries;
    let isAway = true;
    deliveries.finish = (...args: []) =>
      isAway ? Promise.reject(Object.assign(new Error('away'), { code: 'ECONNREFUSED' })) : finish(...args);
    dispatcher.wake(['hook']);
    while (warn.mock.calls.length === 0) await new Promise((resolve) => setImmediate(resolve));
    isAway = false;
    while (did.length < 2) await new Promise((resolve) => setImmediate(resolve));
    expect(did).toEqual(['send msg_1', 'delivered 1 200 null']);
    expect(warn.mock.calls).toEqual([['Webhooks wait: ECONNREFUSED']]);
    warn.mockRestore();
  });
});

describe('from time to time', () => {
  it('claims are kept, and queues within their bounds', async () => {
    let answer: (attempt: Attempt) => void = () => undefined;
    const { dispatcher, served, did } = stage(
      [delivery(1), delivery(2, 'device_2')],
      () => new Promise((resolve) => (answer = resolve)),
      { pending: 11 },
    );
    await served();
    await dispatcher.tidy();
    expect(did.slice(2)).toEqual(['renew 1,2', 'keep 10']);
    expect(dispatcher.backlog).toBe(11);
    answer(TAKEN);
  });

  it('each outage is told of once', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const { dispatcher } = stage([], () => TAKEN);
    const { deliveries } = dispatcher as unknown as { deliveries: { backlogs: () => Promise<unknown> } };
    const { backlogs } = deliveries;
    for (const isAway of [true, true, false, true]) {
      deliveries.backlogs = () => (isAway ? Promise.reject(new Error('away')) : backlogs());
      await dispatcher.tidy();
    }
    expect(warn.mock.calls).toEqual([['Webhooks wait: away'], ['Webhooks wait: away']]);
    warn.mockRestore();
  });

  it('nothing is given up of a queue that is full to the brim', async () => {
    const { dispatcher, did } = stage([], () => TAKEN, { pending: 10 });
    await dispatcher.tidy();
    expect(did).toEqual([]);
  });
});
