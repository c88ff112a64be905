import fc from 'fast-check';
import type { DomainError } from '#kernel';
import {
  answered,
  cancelled,
  COMMAND_STATUSES,
  commandEvent,
  sent,
  type Command,
  type CommandResponse,
  type CommandStatus,
} from './command.js';

const at = (minute: number): Date => new Date(Date.UTC(2024, 0, 23, 10, minute));

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
  expiresAt: at(60),
  result: null,
  error: null,
  attempts: 0,
};

function response(status: CommandResponse['status'], result: unknown = null): CommandResponse {
  return { commandId: QUEUED.commandId, status, result, error: status === 'failed' ? 'no battery' : null };
}

describe('a command', () => {
  it('is recorded on its way from queue to completion', () => {
    const out = sent(QUEUED, at(1));
    expect(out).toMatchObject({ status: 'sent', sentAt: at(1), attempts: 1, acknowledgedAt: null });
    const known = answered(out, response('acknowledged'), at(2));
    expect(known).toMatchObject({ status: 'acknowledged', acknowledgedAt: at(2), completedAt: null });
    const done = answered(known, response('completed', { started: true }), at(3));
    expect(done).toMatchObject({
      status: 'completed',
      sentAt: at(1),
      acknowledgedAt: at(2),
      completedAt: at(3),
      result: { started: true },
    });
  });

  it.each<[CommandStatus, CommandResponse['status'], CommandStatus]>([
    ['queued', 'acknowledged', 'acknowledged'],
    ['queued', 'completed', 'completed'],
    ['sent', 'acknowledged', 'acknowledged'],
    ['sent', 'completed', 'completed'],
    ['sent', 'failed', 'failed'],
    ['acknowledged', 'acknowledged', 'acknowledged'],
    ['acknowledged', 'failed', 'failed'],
    ['completed', 'acknowledged', 'completed'],
    ['completed', 'failed', 'completed'],
    ['failed', 'completed', 'failed'],
    ['expired', 'acknowledged', 'expired'],
    ['expired', 'completed', 'expired'],
    ['cancelled', 'completed', 'cancelled'],
  ])('that is %s and answered with %s is %s', (status, answer, after) => {
    expect(answered({ ...QUEUED, status }, response(answer), at(5)).status).toBe(after);
  });

  it.each<CommandStatus>(['expired', 'cancelled'])(
    'keeps what a device reports late, once it is %s',
    (status) => {
      const late = answered({ ...QUEUED, status }, response('completed', { started: true }), at(90));
      expect(late).toMatchObject({ status, completedAt: at(90), result: { started: true } });
    },
  );

  it('keeps the first of several reports', () => {
    const done = answered(sent(QUEUED, at(1)), response('completed', 'first'), at(2));
    const again = answered(done, response('failed', 'second'), at(3));
    expect(again).toEqual(done);
  });

  it.each(COMMAND_STATUSES.filter((status) => status !== 'queued'))(
    'that is %s can not be cancelled',
    (status) => {
      expect(() => cancelled({ ...QUEUED, status })).toThrow(
        expect.objectContaining<Partial<DomainError>>({ kind: 'conflict', code: 'command_not_cancellable' }),
      );
    },
  );

  it('never leaves a final status, never goes back, and never loses what was reported', () => {
    const forward: Readonly<Record<CommandStatus, readonly CommandStatus[]>> = {
      queued: ['sent', 'acknowledged', 'completed', 'failed', 'cancelled'],
      sent: ['acknowledged', 'completed', 'failed'],
      acknowledged: ['completed', 'failed'],
      completed: [],
      failed: [],
      expired: [],
      cancelled: [],
    };
    const answer = fc.record({
      status: fc.constantFrom('acknowledged' as const, 'completed' as const, 'failed' as const),
      result: fc.jsonValue({ maxDepth: 1 }),
    });
    const step = fc.oneof(fc.constantFrom('sent' as const, 'cancelled' as const), answer);
    fc.assert(
      fc.property(fc.constantFrom(...COMMAND_STATUSES), fc.array(step), (first, steps) => {
        let command: Command = { ...QUEUED, status: first };
        steps.forEach((next, minute) => {
          const before = command;
          if (next === 'sent') command = sent(before, at(minute));
          else if (next === 'cancelled') {
            if (before.status === 'queued') command = cancelled(before);
            else expect(() => cancelled(before)).toThrow();
          } else {
            command = answered(before, response(next.status, next.result), at(minute));
            expect(answered(command, response(next.status, next.result), at(minute + 1))).toEqual(command);
          }
          expect([before.status, ...forward[before.status]]).toContain(command.status);
          if (before.completedAt !== null) {
            const { completedAt, result, error } = before;
            expect(command).toMatchObject({ completedAt, result, error });
          }
        });
      }),
    );
  });
});

describe('commandEvent', () => {
  it('tells of the new status and of what the device reported', () => {
    const failed = answered(sent(QUEUED, at(1)), response('failed'), at(2));
    expect(commandEvent(failed, { tenant: 'default', patientId: 1 }, at(2))).toMatchObject({
      type: 'command.failed',
      deviceId: 'device_123',
      patientId: 1,
      time: '2024-01-23T10:02:00.000Z',
      data: {
        command_id: QUEUED.commandId,
        command: 'start_monitoring',
        status: 'failed',
        error: 'no battery',
      },
    });
  });
});
