import fc from 'fast-check';
import { NEVER_SEEN } from './presence.fixture.js';
import { report, seen } from './presence.js';
import type { StatusReport } from './status-report.js';

/** What really happened in one session: what the device said, and how it ended. */
interface Session {
  /** Reports and measurements after it has said that it is online. */
  readonly signs: readonly ('report' | 'data')[];
  /** `nothing`: nobody was told, as when a device says goodbye without saying so. */
  readonly end: 'will' | 'status' | 'nothing';
  /** Whether it has ended at all; all but the last have. */
  readonly hasEnded: boolean;
}

/** A message, as it was sent; `silence`: nothing was heard for long. */
interface Message {
  readonly of: number;
  readonly kind: 'online' | 'data' | 'offline' | 'silence';
  /** When it was said, in seconds. */
  readonly said: number;
}

/** How devices speak of themselves. */
interface Manner {
  readonly names: readonly (string | null)[];
  readonly isDated: boolean;
}

const NAMES = ['ash', 'birch', 'cedar', 'dogwood'];
const UNNAMED = [null, null, null, null];
const MINUTE = 60;
const START = Date.UTC(2024, 0, 23, 10, 30);
const at = (second: number): Date => new Date(START + second * 1_000);

const session = (ends: readonly Session['end'][]): fc.Arbitrary<Session> =>
  fc.record({
    signs: fc.array(fc.constantFrom('report' as const, 'data' as const), { maxLength: 3 }),
    end: fc.constantFrom(...ends),
    hasEnded: fc.boolean(),
  });
const history = (...ends: Session['end'][]): fc.Arbitrary<readonly Session[]> =>
  fc.array(session(ends), { minLength: 1, maxLength: 4 });

const isOver = (sessions: readonly Session[], index: number): boolean =>
  index < sessions.length - 1 || sessions[index]?.hasEnded === true;

/** What was sent in each session, in its order. A will is dated by the beginning of its session: it was written then. */
function sent(sessions: readonly Session[], isSilent = false): Message[][] {
  let clock = 0;
  return sessions.map(({ signs, end }, of) => {
    clock += 2;
    const begun = clock;
    const messages: Message[] = [{ of, kind: 'online', said: begun }];
    for (const sign of isSilent ? [] : signs) {
      clock += 2;
      messages.push({ of, kind: sign === 'data' ? 'data' : 'online', said: clock });
    }
    if (!isOver(sessions, of) || end === 'nothing') return messages;
    clock += 2;
    return [...messages, { of, kind: 'offline', said: end === 'will' ? begun - 0.5 : clock }];
  });
}

/** What becomes of a device's presence when these messages arrive so many seconds after one another. */
function arrive(
  messages: readonly Message[],
  gaps: readonly number[],
  { names, isDated }: Manner,
  waited: ReadonlySet<Message> = new Set(),
): string[] {
  let presence = NEVER_SEEN;
  // After everything was said.
  let second = 100;
  return messages.map((message, index) => {
    const { of, kind, said } = message;
    const mayHaveWaited = waited.has(message);
    second += gaps[index % gaps.length] ?? 0;
    if (kind === 'silence') {
      if (presence.status === 'online') presence = { ...presence, status: 'offline', connectedSince: null };
    } else if (kind === 'data') {
      ({ presence } = seen(presence, {
        at: at(second),
        waited: mayHaveWaited ? { said: isDated ? at(said) : null } : null,
      }));
    } else {
      const read: StatusReport = {
        status: kind,
        session: names[of] ?? null,
        battery: null,
        signalStrength: null,
        dated: isDated ? at(said) : null,
        will: false,
        retained: false,
        mayHaveWaited,
      };
      ({ presence } = report(presence, read, at(second)));
    }
    return presence.status;
  });
}

/** As far as anybody was told. */
const truth = (sessions: readonly Session[]): string =>
  isOver(sessions, sessions.length - 1) && sessions.at(-1)?.end !== 'nothing' ? 'offline' : 'online';

/** Merges queues by a list of choices; each queue keeps its order. */
function merged(queues: readonly (readonly Message[])[], choices: readonly number[]): Message[] {
  const left = queues.map((queue) => [...queue]).filter((queue) => queue.length > 0);
  const order: Message[] = [];
  for (let turn = 0; left.length > 0; turn += 1) {
    const at = (choices[turn % choices.length] ?? 0) % left.length;
    const message = left[at]?.shift();
    if (message) order.push(message);
    if (left[at]?.length === 0) left.splice(at, 1);
  }
  return order;
}

const choices = fc.array(fc.nat(3), { minLength: 1, maxLength: 30 });
/** All that is in a race arrives within some seconds. */
const short = fc.array(fc.double({ min: 0.001, max: 0.4, noNaN: true }), { minLength: 1, maxLength: 10 });
const long = fc.array(fc.integer({ min: 11, max: MINUTE }), { minLength: 1, maxLength: 10 });

describe('ends with what really is', () => {
  it('in any order at all, and twice, where sessions are named and dated', () => {
    const everything = fc.tuple(history('will', 'status', 'nothing'), short).chain(([sessions, gaps]) => {
      const messages = sent(sessions, true).flat();
      return fc.tuple(
        fc.constant(sessions),
        fc.constant(gaps),
        fc.shuffledSubarray([...messages, ...messages], { minLength: messages.length * 2 }),
      );
    });
    fc.assert(
      fc.property(everything, ([sessions, gaps, messages]) => {
        const said = arrive(messages, gaps, { names: NAMES, isDated: true });
        expect(said.at(-1) === 'online').toBe(truth(sessions) === 'online');
      }),
      { numRuns: 1_000 },
    );
  });

  it('in any order at all, where sessions are only named', () => {
    const everything = fc.tuple(history('will', 'status'), short).chain(([sessions, gaps]) => {
      const messages = sent(sessions, true).flat();
      return fc.tuple(
        fc.constant(sessions),
        fc.constant(gaps),
        fc.shuffledSubarray(messages, { minLength: messages.length }),
      );
    });
    fc.assert(
      fc.property(everything, fc.boolean(), ([sessions, gaps, messages], count) => {
        const names = count ? ['boot-8', 'boot-9', 'boot-10', 'boot-11'] : NAMES;
        const said = arrive(messages, gaps, { names, isDated: false });
        expect(said.at(-1) === 'online').toBe(truth(sessions) === 'online');
      }),
      { numRuns: 1_000 },
    );
  });

  it.each([
    ['named', { names: NAMES, isDated: false }],
    ['named and dated', { names: NAMES, isDated: true }],
    ['dated', { names: UNNAMED, isDated: true }],
  ])('whatever way sessions are mixed that are %s, each in its own order', (_what, manner) => {
    fc.assert(
      fc.property(history('will', 'status'), choices, short, (sessions, order, gaps) => {
        // Measurements name no session: those of an older one are signs of life, too.
        const queues = sent(sessions).map((queue) => queue.filter(({ kind }) => kind !== 'data'));
        // A device without names that reports later than it writes its will is known by its silence alone.
        const told = manner.names === UNNAMED ? sent(sessions, true) : queues;
        const said = arrive(merged(told, order), gaps, manner);
        expect(said.at(-1) === 'online').toBe(truth(sessions) === 'online');
      }),
      { numRuns: 1_000 },
    );
  });

  const dealt = fc.infiniteStream(fc.boolean());
  it('when what one replica was dealt is read long after all else, of sessions that are named and dated', () => {
    fc.assert(
      fc.property(history('will', 'status'), dealt, long, (sessions, share, gaps) => {
        const all = sent(sessions).flat();
        const late = new Set(all.filter(() => share.next().value));
        const order = [...all.filter((message) => !late.has(message)), ...late];
        const said = arrive(order, gaps, { names: NAMES, isDated: true }, late);
        expect(said.at(-1) === 'online').toBe(truth(sessions) === 'online');
      }),
      { numRuns: 1_000 },
    );
  });

  it.each([
    ['named', NAMES],
    ['not named', UNNAMED],
  ])('offline, whatever is read long after all ends were heard, of sessions that are %s', (_what, names) => {
    fc.assert(
      fc.property(history('will', 'status'), dealt, long, fc.boolean(), (sessions, share, gaps, isDated) => {
        const all = sent(sessions.map((one) => ({ ...one, hasEnded: true }))).flat();
        const late = new Set(all.filter(({ kind }) => kind !== 'offline' && share.next().value));
        const inTime = all.filter((message) => !late.has(message));
        const said = arrive([...inTime, ...late], gaps, { names, isDated: isDated && names === NAMES }, late);
        expect(said.slice(inTime.length - 1)).not.toContain('online');
      }),
      { numRuns: 1_000 },
    );
  });

  it.each([
    ['named, minutes apart', { names: NAMES, isDated: false }, long],
    ['named and dated', { names: NAMES, isDated: true }, short],
    ['named so that they count up', { names: ['1', '2', '3', '4'], isDated: false }, short],
  ])('at each moment, when wills alone are late, of sessions that are %s', (_what, manner, gaps) => {
    fc.assert(
      fc.property(
        history('will', 'status', 'nothing'),
        choices,
        gaps,
        fc.option(fc.nat(20), { nil: -1 }),
        (sessions, order, apart, silentAt) => {
          const all = sent(sessions).flat();
          // One connection after the other, as a broker lets them in; the ends come whenever they do.
          const inOrder = all.filter(({ kind }) => kind !== 'offline');
          const arrival = [...inOrder];
          all
            .filter(({ kind }) => kind === 'offline')
            .forEach((end, index) => {
              const first = arrival.findLastIndex(({ of, kind }) => of === end.of && kind !== 'offline') + 1;
              const room = arrival.length - first + 1;
              arrival.splice(first + ((order[index % order.length] ?? 0) % room), 0, end);
            });
          if (silentAt >= 0)
            arrival.splice(silentAt % arrival.length, 0, { of: -1, kind: 'silence', said: 0 });

          let isThere = false;
          let newest = 0;
          const really = arrival.map(({ kind, of }) => {
            if (kind === 'silence') isThere = false;
            else if (kind !== 'offline') [isThere, newest] = [true, of];
            else if (of === newest) isThere = false;
            return isThere;
          });
          expect(arrive(arrival, apart, manner).map((status) => status === 'online')).toEqual(really);
        },
      ),
      { numRuns: 1_000 },
    );
  });
});
