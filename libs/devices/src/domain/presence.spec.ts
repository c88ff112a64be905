import fc from 'fast-check';
import { NEVER_SEEN } from './presence.fixture.js';
import { both, cutOff, report, seen, type Outcome, type Presence, type Sighting } from './presence.js';
import type { StatusReport } from './status-report.js';

const at = (second: number): Date => new Date(Date.UTC(2024, 0, 23, 10, 30, 0) + second * 1_000);

const inOrder = (second: number): Sighting => ({ at: at(second), waited: null });

type Said = readonly [message: StatusReport | 'data', second: number];

/** @param second when it was said, by the device's clock. */
function says(
  status: StatusReport['status'],
  session: string | null = null,
  second: number | null = null,
): StatusReport {
  const dated = second === null ? null : at(second);
  return {
    status,
    session,
    battery: null,
    signalStrength: null,
    dated,
    will: false,
    retained: false,
    mayHaveWaited: false,
  };
}

const told = ({ change }: Outcome): string | null =>
  change && (change.status === 'online' ? 'connected' : 'disconnected');

/** The presence after messages that came in at these seconds, and what each of them changed. */
function afterAll(...messages: readonly Said[]): { presence: Presence; changes: unknown[] } {
  let presence = NEVER_SEEN;
  const changes = messages.map(([message, second]) => {
    const outcome =
      message === 'data' ? seen(presence, inOrder(second)) : report(presence, message, at(second));
    presence = outcome.presence;
    return told(outcome);
  });
  return { presence, changes };
}

/** The presence after reports a second apart, and what each of them changed. */
function after(...reports: StatusReport[]): { presence: Presence; changes: unknown[] } {
  return afterAll(...reports.map((message, index): Said => [message, index]));
}

describe('report', () => {
  it('connects a device at its first report, and dates that', () => {
    expect(after(says('online'))).toMatchObject({
      presence: { status: 'online', lastSeen: at(0), connectedSince: at(0) },
      changes: ['connected'],
    });
  });

  it.each<[string, StatusReport[], Presence['status'], unknown[]]>([
    ['online twice', [says('online'), says('online')], 'online', ['connected', null]],
    ['offline', [says('online'), says('offline')], 'offline', ['connected', 'disconnected']],
    [
      'offline twice',
      [says('online'), says('offline'), says('offline')],
      'offline',
      ['connected', 'disconnected', null],
    ],
    ['offline, never seen', [says('offline')], 'offline', [null]],
    ['its own will', [says('online', 'a'), says('offline', 'a')], 'offline', ['connected', 'disconnected']],
    [
      "an older session's late will",
      [says('online', 'a'), says('online', 'b'), says('offline', 'a')],
      'online',
      ['connected', null, null],
    ],
    [
      "the newer session's will after the late one",
      [says('online', 'a'), says('online', 'b'), says('offline', 'a'), says('offline', 'b')],
      'offline',
      ['connected', null, null, 'disconnected'],
    ],
    [
      'a will without a session',
      [says('online', 'a'), says('offline')],
      'offline',
      ['connected', 'disconnected'],
    ],
    [
      'a will with the only session',
      [says('online'), says('offline', 'a')],
      'offline',
      ['connected', 'disconnected'],
    ],
    [
      'a session that comes back',
      [says('online', 'a'), says('offline', 'a'), says('online', 'b'), says('offline', 'a')],
      'online',
      ['connected', 'disconnected', 'connected', null],
    ],
    [
      "an older session's late will, when the newer one has gone",
      [says('online', 'a'), says('online', 'b'), says('offline', 'b'), says('offline', 'a')],
      'offline',
      ['connected', null, null, 'disconnected'],
    ],
    [
      'the same by date',
      [says('online', 'a', 0), says('online', 'b', 1), says('offline', 'b', 1), says('offline', 'a', 0)],
      'offline',
      ['connected', null, 'disconnected', null],
    ],
    [
      'the same by names that count up',
      [says('online', 'boot-9'), says('online', 'boot-10'), says('offline', 'boot-10')],
      'offline',
      ['connected', null, 'disconnected'],
    ],
    [
      'two sessions in the wrong order, by names that count up',
      [says('online', '8'), says('online', '7'), says('offline', '7')],
      'online',
      ['connected', null, null],
    ],
    [
      'two sessions whose names do not count up',
      [says('online', '1000'), says('online', '7'), says('offline', '1000')],
      'online',
      ['connected', null, null],
    ],
    [
      "an older session's late online",
      [says('online', 'a', 0), says('offline', 'a', 0), says('online', 'b', 3), says('online', 'a', 1)],
      'online',
      ['connected', 'disconnected', 'connected', null],
    ],
    [
      "an older session's late online, when the newer one has gone",
      [
        says('online', 'a'),
        says('online', 'b'),
        says('offline', 'a'),
        says('offline', 'b'),
        says('online', 'a'),
      ],
      'offline',
      ['connected', null, null, 'disconnected', null],
    ],
    [
      'a late online, while the other of two has not ended',
      [
        says('online', 'a'),
        says('online', 'b'),
        says('offline', 'b'),
        says('online', 'b'),
        says('offline', 'a'),
      ],
      'offline',
      ['connected', null, null, null, 'disconnected'],
    ],
    [
      'a will that comes before its session',
      [says('offline', 'a'), says('online', 'a')],
      'offline',
      [null, null],
    ],
    [
      'a newer session known by its will alone',
      [says('online', 'a', 0), says('offline', 'b', 5)],
      'offline',
      ['connected', 'disconnected'],
    ],
    [
      'the will of a session nobody knows',
      [says('online', 'a'), says('offline', 'b')],
      'online',
      ['connected', null],
    ],
    [
      'a session that begins again under its name',
      [says('online', 'a'), says('offline', 'a'), says('online', 'a'), says('offline', 'a')],
      'offline',
      ['connected', 'disconnected', 'connected', 'disconnected'],
    ],
    [
      'a session that is announced again with its old date',
      [says('online', 'a', 0), says('offline', 'a', 0), says('online', 'a', 0)],
      'offline',
      ['connected', 'disconnected', null],
    ],
    [
      'a late will, by its date alone',
      [says('online', null, 0), says('online', null, 1), says('offline', null, 0)],
      'online',
      ['connected', null, null],
    ],
    [
      'a late online, by its date alone',
      [says('offline', null, 1), says('online', null, 0)],
      'offline',
      [null, null],
    ],
    [
      'dates within a second, which tell nothing',
      [says('online', null, 1), says('offline', null, 0.001)],
      'offline',
      ['connected', 'disconnected'],
    ],
    [
      'an undated will after a dated status',
      [says('online', null, 0), says('offline')],
      'offline',
      ['connected', 'disconnected'],
    ],
  ])('%s', (_what, reports, status, changes) => {
    const outcome = after(...reports);
    expect(outcome.presence.status).toBe(status);
    expect(outcome.changes).toEqual(changes);
  });

  it('dates the connection anew only for a new session', () => {
    const since = (...reports: StatusReport[]): Date | null => after(...reports).presence.connectedSince;
    expect(since(says('online', 'a'), says('online', 'a'), says('online'))).toEqual(at(0));
    expect(since(says('online', 'a'), says('online', 'b'))).toEqual(at(1));
    expect(since(says('online', 'a'), says('offline', 'a'))).toBeNull();
  });

  it('keeps what a report leaves out, and takes nothing from a late will', () => {
    const { presence } = after(
      { ...says('online', 'a'), battery: 85, signalStrength: -45 },
      { ...says('online', 'b'), battery: 84 },
      { ...says('offline', 'a'), battery: 1 },
    );
    expect(presence).toMatchObject({ battery: 84, signalStrength: -45, lastSeen: at(1), session: 'b' });
  });

  it('takes a battery from an offline message only when it is the last that was said', () => {
    const battery = (last: StatusReport): number | null =>
      after({ ...says('online', 'a', 10), battery: 85 }, { ...last, battery: 3 }).presence.battery;
    expect(battery(says('offline', 'a'))).toBe(85);
    expect(battery(says('offline', 'a', 10))).toBe(85);
    expect(battery(says('offline', 'a', 11))).toBe(3);
    expect(battery(says('offline', null, 11))).toBe(3);
  });

  it.each(['a', null])('takes no battery from a report that is older than another, of session %s', (name) => {
    const { presence } = after(
      { ...says('online', name, 10), battery: 85 },
      { ...says('online', name, 98), battery: 95, signalStrength: -40 },
      { ...says('online', name, 40), battery: 16, signalStrength: -90 },
    );
    expect(presence).toMatchObject({
      status: 'online',
      battery: 95,
      signalStrength: -40,
      lastSeen: expect.any(Date),
    });
  });

  describe('of what may have waited while others were heard', () => {
    const waited = (message: StatusReport): StatusReport => ({ ...message, mayHaveWaited: true });
    const END = 5;
    it.each<[string, StatusReport, Presence['status']]>([
      ['a report of the session that has ended', says('online', 'a'), 'offline'],
      ['the beginning of one whose end was heard', says('online', 'b'), 'offline'],
      ['the same, dated before', says('online', 'b', END - 2), 'offline'],
      ['one that tells nothing', says('online'), 'offline'],
      ['a report of the session, dated after its end', says('online', 'a', END + 2), 'online'],
      ['one without a session, dated after the end', says('online', null, END + 2), 'online'],
      ['a session whose end was not heard', says('online', 'c'), 'online'],
    ])('%s', (_what, message, status) => {
      const before: readonly Said[] = [
        [says('online', 'a'), 0],
        [says('offline', 'a'), END],
        [says('offline', 'b'), END],
      ];
      // However late it is read.
      for (const second of [END + 3, END + 60])
        expect(afterAll(...before, [waited(message), second]).presence.status).toBe(status);
    });

    it('believes the next that did not wait', () => {
      const { presence } = after(says('online', 'a'), says('offline', 'a'), waited(says('online', 'a')));
      expect(presence.status).toBe('offline');
      expect(told(report(presence, says('online', 'a'), at(3)))).toBe('connected');
      expect(told(seen(presence, inOrder(3)))).toBe('connected');
    });
  });

  it.each([
    ['says so', { ...says('offline', 'a'), will: true }, 'will'],
    ['is as old as its session', says('offline', 'a', 10), 'will'],
    ['is newer', says('offline', 'a', 11), 'status'],
    ['has no date', says('offline', 'a'), 'status'],
    ['names no session, and is as old as the last', says('offline', null, 10), 'will'],
    ['names no session, and is newer', says('offline', null, 11), 'status'],
  ] as const)('knows a will from a status: it %s', (_what, message, cause) => {
    const { presence } = after(says('online', 'a', 10));
    expect(report(presence, message, at(20)).change).toMatchObject({ cause, session: 'a', at: at(20) });
  });

  it('lets no session be outlived by one announced long ago', () => {
    const messages: readonly Said[] = [
      [says('online', 'a'), 0],
      [says('online', 'b'), 11],
      [says('offline', 'b'), 12],
    ];
    expect(afterAll(...messages).changes).toEqual(['connected', null, 'disconnected']);
  });

  it('forgets a name after an hour, but never the session that the device is in', () => {
    const messages: readonly Said[] = [
      [says('online', 'a'), 0],
      [says('online', 'b'), 20],
      [says('online', 'a'), 3_000],
      [says('offline', 'b'), 7_200],
      [says('online', 'a'), 7_201],
      [says('online', 'a'), 20_000],
      [says('offline', 'z'), 40_000],
      [says('offline', 'a'), 40_000],
    ];
    expect(afterAll(...messages).changes).toEqual([
      'connected',
      null,
      null,
      'disconnected',
      'connected',
      null,
      null,
      'disconnected',
    ]);
  });

  it('remembers a few sessions, however many there are', () => {
    const many = Array.from({ length: 100 }, (_, index) => says('online', `session ${index} of many`));
    expect(after(...many).presence.memory.sessions.length).toBeLessThanOrEqual(9);
  });

  it('is not led astray by the ends of however many other sessions', () => {
    const strays = Array.from({ length: 30 }, (_, index): Said => [
      says('offline', `old${index}-s`),
      index + 1,
    ]);
    expect(afterAll([says('online', 'zero-s'), 0], ...strays).presence).toMatchObject({
      status: 'online',
      session: 'zero-s',
    });
  });

  describe('of a session whose clock was not set when it began', () => {
    const lateAtFirst: readonly Said[] = [
      [says('online', 'night', 0), 0],
      [says('offline', 'night', 0), 1],
      [says('online', 'day', -60), 12],
    ];

    it('believes it as soon as its date is newer than all others', () => {
      expect(afterAll(...lateAtFirst, [says('online', 'day', 13), 13])).toMatchObject({
        presence: { status: 'online', session: 'day' },
        changes: ['connected', 'disconnected', null, 'connected'],
      });
    });

    it('believes it, whatever its clock says, when the others have ended and been silent for longer than a race lasts', () => {
      expect(afterAll(...lateAtFirst, [says('online', 'day', -59), 13]).presence.status).toBe('online');
      const sooner: readonly Said[] = [
        [says('online', '45'), 0],
        [says('online', '39'), 1],
        [says('offline', '45'), 2],
      ];
      expect(afterAll(...sooner, [says('online', '39'), 11]).presence.status).toBe('offline');
      expect(afterAll(...sooner, [says('online', '39'), 13]).presence.status).toBe('online');
    });

    it('does not believe what it has said before', () => {
      expect(afterAll(...lateAtFirst, [says('online', 'day', -60), 30]).presence.status).toBe('offline');
    });

    it('leaves it in place of the one before, whose will then ends nothing', () => {
      const { presence } = afterAll(
        [says('online', 'aa', 0), 0],
        [says('online', 'bb', -300), 1],
        [says('online', 'bb', 2), 2],
        [says('offline', 'aa', 0), 3],
      );
      expect(presence).toMatchObject({ status: 'online', session: 'bb' });
    });

    it('ends it by its own will, also when a measurement has brought the device back', () => {
      expect(afterAll(...lateAtFirst, ['data', 13], [says('offline', 'day', -60), 14])).toMatchObject({
        presence: { status: 'offline' },
        changes: ['connected', 'disconnected', null, 'connected', 'disconnected'],
      });
    });
  });

  describe('of what the broker had retained', () => {
    const kept = (message: StatusReport): StatusReport => ({ ...message, retained: true });
    it.each<[string, StatusReport[], Presence['status']]>([
      ['an online', [kept(says('online', 'a', 5))], 'inactive'],
      [
        'an online, after an end',
        [says('online', 'a'), says('offline', 'a'), kept(says('online'))],
        'offline',
      ],
      ['an offline', [says('online'), kept(says('offline'))], 'online'],
      ['an offline, of the session', [says('online', 'a'), kept(says('offline', 'a'))], 'offline'],
      ['an offline, of another', [says('online', 'a'), kept(says('offline', 'b'))], 'online'],
      ['an offline, of a newer one', [says('online', 'a', 0), kept(says('offline', 'b', 1))], 'offline'],
      ['an offline, newer', [says('online', null, 0), kept(says('offline', null, 1))], 'offline'],
      ['an offline, older', [says('online', null, 1), kept(says('offline', null, 1))], 'online'],
    ])('%s', (_what, reports, status) => {
      expect(after(...reports).presence.status).toBe(status);
    });
  });
});

describe('seen', () => {
  it('connects a silent device', () => {
    expect(seen(NEVER_SEEN, inOrder(0))).toMatchObject({
      presence: { status: 'online', lastSeen: at(0), lastDataAt: at(0), connectedSince: at(0) },
      change: { status: 'online', cause: 'data', at: at(0) },
    });
    expect(told(seen(after(says('online'), says('offline')).presence, inOrder(5)))).toBe('connected');
  });

  it('does not when it was received before the end was', () => {
    const { presence } = after(says('online'), says('offline'));
    for (const early of [0, 1]) {
      const outcome = seen(presence, inOrder(early));
      expect(outcome.change).toBeNull();
      expect(outcome.presence).toEqual({ ...presence, lastDataAt: at(early) });
    }
  });

  it.each<[string, number | null, boolean]>([
    ['bears no date', null, false],
    ['is dated before the end', 0.5, false],
    ['is dated about then, which tells nothing', 1.9, false],
    ['is dated after it', 2, true],
    ['is dated by a clock that was never set', -7_200, false],
  ])('does not, where it may have waited, unless it is surely of after: it %s', (_what, said, isNews) => {
    const { presence } = after(says('online'), says('offline'));
    const sighting = { at: at(60), waited: { said: said === null ? null : at(said) } };
    const outcome = seen(presence, sighting);
    expect(told(outcome)).toBe(isNews ? 'connected' : null);
    expect(outcome.presence.lastDataAt).toEqual(at(60));
    if (!isNews) expect(told(seen(outcome.presence, inOrder(61)))).toBe('connected');
  });

  it('does, where it may have waited, when a silence or nobody has taken the device offline', () => {
    const sighting = { at: at(400), waited: { said: null } };
    expect(told(seen(NEVER_SEEN, sighting))).toBe('connected');
    const { presence } = after(says('online'), says('offline'), says('online'));
    const silent: Presence = { ...presence, status: 'offline', connectedSince: null };
    expect(told(seen(silent, sighting))).toBe('connected');
  });

  it('only moves the last sign of life of one that is online, and never back', () => {
    const online = seen(NEVER_SEEN, inOrder(5)).presence;
    const moved = { ...online, lastSeen: at(9), lastDataAt: at(9) };
    expect(seen(online, inOrder(9))).toEqual({ presence: moved, change: null });
    expect(seen(online, inOrder(1))).toEqual({ presence: online, change: null });
  });

  it('goes on with the session that was there before a silence', () => {
    const { presence } = after(says('online', 'a'));
    const silent: Presence = { ...presence, status: 'offline', connectedSince: null };
    const back = seen(silent, inOrder(400)).presence;
    expect(told(report(back, says('offline', 'z'), at(401)))).toBeNull();
    expect(told(report(back, says('offline', 'a'), at(401)))).toBe('disconnected');
  });
});

describe('both', () => {
  const waited = (second: number, said: number | null): Sighting => ({
    at: at(second),
    waited: { said: said === null ? null : at(said) },
  });
  it.each<[string, Sighting | undefined, Sighting, Sighting]>([
    ['the only one', undefined, waited(1, null), waited(1, null)],
    ['the last of two in their order', inOrder(1), inOrder(2), inOrder(2)],
    ['what came in its order before', inOrder(1), waited(2, 2), inOrder(1)],
    ['what came in its order after', waited(1, 1), inOrder(2), inOrder(2)],
    ['the newest date of those that waited', waited(1, 9), waited(2, 8), waited(2, 9)],
    ['the only date', waited(1, null), waited(2, 8), waited(2, 8)],
  ])('is %s', (_what, first, next, expected) => {
    expect(both(first, next)).toEqual(expected);
  });
});

describe('cutOff', () => {
  it('ends what there is, and its late will ends nothing after it', () => {
    const { presence, change } = cutOff(after(says('online', 'a')).presence, at(5), 'credentials');
    expect(presence).toMatchObject({ status: 'offline', session: null, connectedSince: null });
    expect(change).toMatchObject({ status: 'offline', cause: 'credentials', session: 'a' });
    const back = report(presence, says('online', 'b'), at(6)).presence;
    expect(report(back, says('offline', 'a'), at(7)).presence.status).toBe('online');
  });

  it('leaves one that was never seen as it is', () => {
    expect(cutOff(NEVER_SEEN, at(0), 'decommissioned')).toMatchObject({
      presence: { status: 'inactive' },
      change: null,
    });
  });
});

it('tells of every change once, and dates a connection exactly while there is one', () => {
  const sign = fc.oneof(
    fc.constant('data' as const),
    fc.record({
      status: fc.constantFrom('online' as const, 'offline' as const),
      session: fc.constantFrom(null, 'a', 'b'),
      dated: fc.option(fc.nat(20)),
      retained: fc.boolean(),
    }),
  );
  fc.assert(
    fc.property(fc.array(sign), (signs) => {
      let presence = NEVER_SEEN;
      signs.forEach((next, index) => {
        const second = 20 + index;
        const outcome =
          next === 'data'
            ? seen(presence, inOrder(second))
            : report(
                presence,
                { ...says(next.status, next.session, next.dated), retained: next.retained },
                at(second),
              );
        const [was, is] = [presence.status === 'online', outcome.presence.status === 'online'];
        expect(told(outcome)).toBe(was === is ? null : is ? 'connected' : 'disconnected');
        expect(outcome.presence.connectedSince !== null).toBe(is);
        ({ presence } = outcome);
      });
    }),
  );
});
