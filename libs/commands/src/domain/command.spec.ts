import fc from 'fast-check';
import type { DomainError } from '#kernel';
import {
  answered,
  cancelled,
  COMMAND_STATUSES,
  commandEvent,
  expired,
  sent,
  undeliverable,
  type Command,
  type CommandResponse,
  type CommandStatus,
  type Step,
} from './command.js';

const at = (minute: number): Date => new Date(Date.UTC(2024, 0, 23, 10, minute));
const EXPIRY = 60;

const QUEUED: Command = {
  id: 1,
  commandId: '6f1b9f5e-3c0b-4a57-9d4e-2f8a1f0f7b11',
  deviceId: 'device_123',
  command: 'start_monitoring',
  parameters: { interval: 30 },
  status: 'queued',
  createdBy: 'operator-1',
  createdAt: at(0),
  sentAt: null,
  acknowledgedAt: null,
  completedAt: null,
  expiresAt: at(EXPIRY),
  result: null,
  error: null,
  attempts: 0,
  lateResponse: null,
  claimedUntil: null,
  patientSince: null,
};

function response(status: CommandResponse['status'], result: unknown = null): CommandResponse {
  return { commandId: QUEUED.commandId, status, result, error: status === 'failed' ? 'no battery' : null };
}

/** The statuses a step went through. */
const statuses = (step: Step | null): CommandStatus[] => (step?.entered ?? []).map(({ status }) => status);

/** What a step made; the command itself where there was none. */
const after = (command: Command, step: Step | null): Command => step?.command ?? command;

describe('a command', () => {
  it('is recorded on its way from queue to completion', () => {
    const out = sent({ ...QUEUED, claimedUntil: at(2) }, at(1));
    expect(out).toMatchObject({
      command: { status: 'sent', sentAt: at(1), acknowledgedAt: null, claimedUntil: null },
      entered: [{ status: 'sent', at: at(1) }],
    });
    const known = answered(after(QUEUED, out), response('acknowledged'), at(2));
    expect(known).toMatchObject({
      command: { status: 'acknowledged', acknowledgedAt: at(2), completedAt: null },
      entered: [{ status: 'acknowledged', at: at(2) }],
    });
    const done = answered(known.command, response('completed', { started: true }), at(3));
    expect(done).toMatchObject({
      command: {
        status: 'completed',
        sentAt: at(1),
        acknowledgedAt: at(2),
        completedAt: at(3),
        result: { started: true },
        lateResponse: null,
      },
      entered: [{ status: 'completed', at: at(3) }],
    });
  });

  it.each<[CommandStatus, CommandResponse['status'], CommandStatus, CommandStatus[]]>([
    ['queued', 'acknowledged', 'acknowledged', ['sent', 'acknowledged']],
    ['queued', 'completed', 'completed', ['sent', 'completed']],
    ['sent', 'acknowledged', 'acknowledged', ['acknowledged']],
    ['sent', 'completed', 'completed', ['completed']],
    ['sent', 'failed', 'failed', ['failed']],
    ['acknowledged', 'acknowledged', 'acknowledged', []],
    ['acknowledged', 'failed', 'failed', ['failed']],
    ['completed', 'acknowledged', 'completed', []],
    ['completed', 'failed', 'completed', []],
    ['failed', 'completed', 'failed', []],
    ['expired', 'acknowledged', 'expired', []],
    ['expired', 'completed', 'expired', []],
    ['cancelled', 'completed', 'cancelled', []],
  ])('that is %s and answered with %s is %s', (status, answer, then, entered) => {
    const step = answered({ ...QUEUED, status }, response(answer), at(5));
    expect({ then: step.command.status, entered: statuses(step) }).toEqual({ then, entered });
  });

  it.each<CommandStatus>(['expired', 'cancelled'])(
    'keeps what a device reports late, once it is %s, and says so',
    (status) => {
      const known = answered({ ...QUEUED, status }, response('acknowledged'), at(80));
      expect(known.command).toMatchObject({ status, acknowledgedAt: at(80), lateResponse: 'acknowledged' });
      const late = answered(known.command, response('completed', { started: true }), at(90));
      expect(late.command).toMatchObject({
        status,
        completedAt: at(90),
        result: { started: true },
        lateResponse: 'completed',
      });
      const again = answered(late.command, response('failed'), at(91));
      expect(again.command).toEqual(late.command);
    },
  );

  it('is late by the clock, whether or not its expiry was noticed before', () => {
    const out = after(QUEUED, sent(QUEUED, at(1)));
    const late = answered(out, response('completed'), at(EXPIRY));
    expect(late).toMatchObject({
      command: { status: 'expired', lateResponse: 'completed', completedAt: at(EXPIRY) },
      entered: [{ status: 'expired', at: at(EXPIRY) }],
    });
    expect(statuses(answered(out, response('completed'), at(EXPIRY - 1)))).toEqual(['completed']);
  });

  it('was sent when it is answered: the record of the sending, if it comes after that, changes nothing', () => {
    const known = answered(QUEUED, response('acknowledged'), at(2)).command;
    expect(known.sentAt).toEqual(at(2));
    expect(sent(known, at(3))).toBeNull();
  });

  it('that ended while it was being sent keeps its end, and shows that it was sent', () => {
    const over = after(QUEUED, expired(QUEUED, at(EXPIRY)));
    expect(sent(over, at(61))).toMatchObject({ command: { status: 'expired', sentAt: at(61) }, entered: [] });
  });

  it('was sent no later than it was answered, whichever is recorded first, and by whose clock', () => {
    const over = after(QUEUED, expired(QUEUED, at(EXPIRY)));
    const late = answered(over, response('completed'), at(61)).command;
    expect(after(late, sent(late, at(62)))).toMatchObject({ sentAt: at(61), completedAt: at(61) });
    expect(after(late, sent(late, at(60)))).toMatchObject({ sentAt: at(60) });
    const out = after(QUEUED, sent(QUEUED, at(3)));
    const known = answered(out, response('acknowledged'), at(2)).command;
    expect(known).toMatchObject({ status: 'acknowledged', sentAt: at(2), acknowledgedAt: at(2) });
    expect(answered(known, response('completed'), at(1)).command).toMatchObject({ sentAt: at(1) });
  });

  it('was acknowledged no later than it ended, whichever is heard first, and by whose clock', () => {
    const known = answered(QUEUED, response('acknowledged'), at(3)).command;
    const done = answered(known, response('completed'), at(2)).command;
    expect(done).toMatchObject({ sentAt: at(2), acknowledgedAt: at(2), completedAt: at(2) });
    expect(answered(done, response('acknowledged'), at(4)).command).toEqual(done);
  });

  it('keeps the first of several reports', () => {
    const done = answered(after(QUEUED, sent(QUEUED, at(1))), response('completed', 'first'), at(2));
    const again = answered(done.command, response('failed', 'second'), at(3));
    expect(again).toEqual({ command: done.command, entered: [] });
  });

  it('that the broker will not take fails while it is queued, and not when it was taken after all', () => {
    expect(undeliverable({ ...QUEUED, claimedUntil: at(2) }, 'too_large: 9', at(1))).toMatchObject({
      command: {
        status: 'failed',
        error: 'too_large: 9',
        sentAt: null,
        completedAt: at(1),
        claimedUntil: null,
      },
      entered: [{ status: 'failed', at: at(1) }],
    });
    for (const status of COMMAND_STATUSES.filter((each) => each !== 'queued'))
      expect(undeliverable({ ...QUEUED, status }, 'too_large: 9', at(1))).toBeNull();
  });

  const notCancellable = expect.objectContaining<Partial<DomainError>>({
    kind: 'conflict',
    code: 'command_not_cancellable',
  });

  it.each(COMMAND_STATUSES.filter((status) => status !== 'queued'))(
    'that is %s can not be cancelled',
    (status) => {
      expect(() => cancelled({ ...QUEUED, status }, at(1))).toThrow(notCancellable);
    },
  );

  it('can not be cancelled while it is handed to the broker, whatever the clock of this replica says', () => {
    const claimed = { ...QUEUED, claimedUntil: at(2) };
    for (const minute of [1, 2, 3]) expect(() => cancelled(claimed, at(minute))).toThrow(notCancellable);
  });

  it('never goes back, enters no status twice, and tells of each', () => {
    // The model: how far a command has come, and that an end is an end.
    const rank: Readonly<Record<CommandStatus, number>> = {
      queued: 0,
      sent: 1,
      acknowledged: 2,
      completed: 3,
      failed: 3,
      expired: 3,
      cancelled: 3,
    };
    const answer = fc.record({
      status: fc.constantFrom('acknowledged' as const, 'completed' as const, 'failed' as const),
      result: fc.jsonValue({ maxDepth: 1 }),
    });
    const action = fc.oneof(
      fc.constantFrom('sent' as const, 'cancelled' as const, 'expired' as const, 'claimed' as const),
      answer,
    );
    const steps = fc.array(fc.record({ action, wait: fc.integer({ min: 0, max: 30 }) }), { maxLength: 12 });
    fc.assert(
      fc.property(steps, (sequence) => {
        let command = QUEUED;
        let minute = 0;
        const told: CommandStatus[] = ['queued'];
        for (const { action: next, wait } of sequence) {
          minute += wait;
          const now = at(minute);
          // The ledger shows no claim that has lapsed.
          const lapsed = command.claimedUntil !== null && command.claimedUntil <= now;
          const before = lapsed ? { ...command, claimedUntil: null } : command;
          const over = minute >= EXPIRY;
          const open = rank[before.status] < 3;
          let expectedStatus: CommandStatus = before.status;
          let step: Step | null = null;
          if (next === 'claimed') {
            if (before.status === 'queued') command = { ...before, claimedUntil: at(minute + 1) };
            continue;
          } else if (next === 'sent') {
            if (before.status === 'queued') expectedStatus = 'sent';
            step = sent(before, now);
          } else if (next === 'expired') {
            if (open && over) expectedStatus = 'expired';
            step = expired(before, now);
          } else if (next === 'cancelled') {
            if (before.status === 'queued' && before.claimedUntil === null) {
              expectedStatus = 'cancelled';
              step = cancelled(before, now);
            } else expect(() => cancelled(before, now)).toThrow(notCancellable);
          } else {
            if (open && over) expectedStatus = 'expired';
            else if (open && rank[next.status] > rank[before.status]) expectedStatus = next.status;
            step = answered(before, response(next.status, next.result), now);
            const ended = expectedStatus === 'expired' || expectedStatus === 'cancelled';
            expect(step.command.lateResponse).toBe(
              ended && before.completedAt === null ? next.status : before.lateResponse,
            );
          }
          command = after(before, step);
          told.push(...statuses(step));
          expect(command.status).toBe(expectedStatus);
          expect(told.at(-1)).toBe(expectedStatus);
          if (command.status !== 'queued') expect(command.claimedUntil).toBeNull();
          expect(told.includes('sent') && command.sentAt === null).toBe(false);
          const { sentAt, acknowledgedAt, completedAt: endedAt } = command;
          const times = [sentAt, acknowledgedAt, endedAt].flatMap((time) => time?.getTime() ?? []);
          expect(times).toEqual([...times].sort((one, other) => one - other));
          if (before.completedAt !== null) {
            const { completedAt, result, error } = before;
            expect(command).toMatchObject({ completedAt, result, error });
          }
        }
        expect(new Set(told).size).toBe(told.length);
        expect(told.map((status) => rank[status])).toEqual(told.map((status) => rank[status]).sort());
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('commandEvent', () => {
  it('tells of each status that was entered, under an id of its own, and of what the device reported', () => {
    const owner = { tenant: 'default', patientId: 1 };
    const data = { command_id: QUEUED.commandId, command: 'start_monitoring' };
    const common = { deviceId: 'device_123', ...owner, time: '2024-01-23T10:02:00.000Z' };
    const { command, entered } = answered(QUEUED, response('failed', { code: 7 }), at(2));
    expect(entered.map((each) => commandEvent(command, each, owner))).toEqual([
      { ...common, id: `${QUEUED.commandId}.sent`, type: 'command.sent', data: { ...data, status: 'sent' } },
      {
        ...common,
        id: `${QUEUED.commandId}.failed`,
        type: 'command.failed',
        data: { ...data, status: 'failed', result: { code: 7 }, error: 'no battery' },
      },
    ]);
  });

  it('is for the patient the command was ordered for, and no other of the device', () => {
    const entered = { status: 'queued', at: at(0) } as const;
    const patientOf = (ordered: Date | null, patientSince: Date | null): number | null =>
      commandEvent({ ...QUEUED, patientSince: ordered }, entered, {
        tenant: 'default',
        patientId: 1,
        patientSince,
      }).patientId;
    // Also where the clock that dated the change of patient is ahead of the one that dated the order.
    expect(patientOf(at(5), at(5))).toBe(1);
    expect([patientOf(null, at(0)), patientOf(at(5), at(6))]).toEqual([null, null]);
  });
});
