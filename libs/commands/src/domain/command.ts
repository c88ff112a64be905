import { DomainError, type DomainEvent, type EventType, type Ownership } from '#kernel';

/**
 * queued: the device is offline or the broker away. sent: the broker took it, which says nothing of the device.
 * acknowledged, completed, failed: the device said so. expired, cancelled: it is no longer wanted.
 */
export const COMMAND_STATUSES = [
  'queued',
  'sent',
  'acknowledged',
  'completed',
  'failed',
  'expired',
  'cancelled',
] as const;
export type CommandStatus = (typeof COMMAND_STATUSES)[number];

/** An order to a device and what became of it. */
export interface Command {
  readonly id: number;
  readonly commandId: string;
  readonly deviceId: string;
  readonly command: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly status: CommandStatus;
  readonly createdBy: string;
  readonly createdAt: Date;
  readonly sentAt: Date | null;
  readonly acknowledgedAt: Date | null;
  readonly completedAt: Date | null;
  readonly expiresAt: Date;
  readonly result: unknown;
  readonly error: string | null;
  readonly attempts: number;
}

/** What a device answers. */
export interface CommandResponse {
  readonly commandId: string;
  readonly status: 'acknowledged' | 'completed' | 'failed';
  readonly result: unknown;
  readonly error: string | null;
}

const NEXT: Readonly<Record<CommandStatus, readonly CommandStatus[]>> = {
  queued: ['sent', 'expired', 'cancelled'],
  // The response may overtake the record of the sending.
  sent: ['acknowledged', 'completed', 'failed', 'expired'],
  acknowledged: ['completed', 'failed', 'expired'],
  completed: [],
  failed: [],
  expired: [],
  cancelled: [],
};

/** Names that the message to the device gives a meaning of its own. */
export const RESERVED_PARAMETERS: readonly string[] = ['command', 'command_id', 'issued_at'];

function canBecome(from: CommandStatus, to: CommandStatus): boolean {
  return NEXT[from].includes(to);
}

/** The broker took the command. One that was answered or ended meanwhile keeps its status. */
export function sent(command: Command, at: Date): Command {
  const status = canBecome(command.status, 'sent') ? 'sent' : command.status;
  return { ...command, status, sentAt: at, attempts: command.attempts + 1 };
}

/** @throws DomainError conflict/command_not_cancellable once it is on its way or done with. */
export function cancelled(command: Command): Command {
  if (!canBecome(command.status, 'cancelled')) {
    throw new DomainError(
      'conflict',
      'command_not_cancellable',
      `The command is ${command.status}; only a queued one can be cancelled.`,
    );
  }
  return { ...command, status: 'cancelled' };
}

/**
 * What a response makes of a command. One that comes late, or again, does not change the status the ledger shows;
 * what the device reports is recorded all the same, once.
 */
export function answered(command: Command, response: CommandResponse, at: Date): Command {
  const final = response.status !== 'acknowledged';
  const recorded: Command = {
    ...command,
    acknowledgedAt: command.acknowledgedAt ?? at,
    ...(final &&
      command.completedAt === null && { completedAt: at, result: response.result, error: response.error }),
  };
  // A device answers only what reached it, so a queued command was sent without our record of it.
  const from = command.status === 'queued' ? 'sent' : command.status;
  return canBecome(from, response.status) ? { ...recorded, status: response.status } : recorded;
}

/** The event that tells of a command's new status. */
export function commandEvent(command: Command, { tenant, patientId }: Ownership, at: Date): DomainEvent {
  const type: EventType = `command.${command.status}`;
  return {
    id: crypto.randomUUID(),
    type,
    deviceId: command.deviceId,
    tenant,
    patientId,
    time: at.toISOString(),
    data: {
      command_id: command.commandId,
      command: command.command,
      status: command.status,
      ...(command.result !== null && { result: command.result }),
      ...(command.error !== null && { error: command.error }),
    },
  };
}
