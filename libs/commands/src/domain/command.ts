import { DomainError, type DomainEvent, type EventType, type Ownership } from '#kernel';

/**
 * queued: the device is offline, or the broker away or without knowledge of the device. sent: the broker took it, which says nothing of the device.
 * acknowledged, completed, failed: the device said so; failed, too, what the broker will not take. expired, cancelled: it is no longer wanted.
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

/** What a device can say of a command. */
export type ResponseStatus = Extract<CommandStatus, 'acknowledged' | 'completed' | 'failed'>;

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
  /** Times it was taken up to be handed to the broker. */
  readonly attempts: number;
  /** What the device said last once the command was expired or cancelled; null: it said nothing then. */
  readonly lateResponse: ResponseStatus | null;
  /** Until then somebody is handing it to the broker; null: nobody is, by the clock of the ledger. */
  readonly claimedUntil: Date | null;
  /** Which of the device's patients it was ordered for: since when the device was theirs; null: it had no other before. */
  readonly patientSince: Date | null;
}

/** What a device answers. */
export interface CommandResponse {
  readonly commandId: string;
  readonly status: ResponseStatus;
  readonly result: unknown;
  readonly error: string | null;
}

/** A status a command has entered, and when. */
export interface Entered {
  readonly status: CommandStatus;
  readonly at: Date;
}

/** What something made of a command. */
export interface Step {
  readonly command: Command;
  /** The statuses it went through, in order: each is told of. */
  readonly entered: readonly Entered[];
}

/** Commands a device may have been sent without having answered: the next waits. */
export const MAX_IN_FLIGHT = 10;

const NEXT: Readonly<Record<CommandStatus, readonly CommandStatus[]>> = {
  queued: ['sent', 'failed', 'expired', 'cancelled'],
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

/** The one way into a status. What has left the queue is in nobody's hands any more. */
function enter(command: Command, status: CommandStatus): Command {
  if (!canBecome(command.status, status)) throw new Error(`a command ${command.status} became ${status}`);
  return { ...command, status, claimedUntil: null };
}

/**
 * The broker took the command. One that was answered or ended meanwhile keeps its status, and was sent no later than
 * answered. Null: that was known.
 */
export function sent(command: Command, at: Date): Step | null {
  if (canBecome(command.status, 'sent')) {
    return { command: { ...enter(command, 'sent'), sentAt: at }, entered: [{ status: 'sent', at }] };
  }
  const sentAt = earliest(at, command.acknowledgedAt, command.completedAt);
  return command.sentAt ? null : { command: { ...command, sentAt }, entered: [] };
}

/** Clocks of replicas may be apart, and an answer may be received before it is known that the broker took the command. */
function earliest(at: Date, ...others: readonly (Date | null)[]): Date {
  return others.reduce<Date>((first, other) => (other && other < first ? other : first), at);
}

/** The broker will never take the command. Null: it has left the queue, so it was taken, or has ended. */
export function undeliverable(command: Command, error: string, at: Date): Step | null {
  if (command.status !== 'queued') return null;
  const failed = enter(command, 'failed');
  return { command: { ...failed, completedAt: at, error }, entered: [{ status: 'failed', at }] };
}

/** @throws DomainError conflict/command_not_cancellable once it is on its way or done with. */
export function cancelled(command: Command, at: Date): Step {
  const onItsWay = command.claimedUntil !== null;
  if (!canBecome(command.status, 'cancelled') || onItsWay) {
    throw new DomainError(
      'conflict',
      'command_not_cancellable',
      `The command is ${onItsWay ? 'on its way to the broker' : command.status}; only a queued one can be cancelled.`,
    );
  }
  return { command: enter(command, 'cancelled'), entered: [{ status: 'cancelled', at }] };
}

/** Ends a command whose time is over; null for one that has time left or has ended. */
export function expired(command: Command, at: Date): Step | null {
  if (at < command.expiresAt || !canBecome(command.status, 'expired')) return null;
  return { command: enter(command, 'expired'), entered: [{ status: 'expired', at }] };
}

/** Whether a device can have got the command: it was taken up to be sent, though nobody may know what came of that. */
export function mayHaveArrived({ attempts }: Command): boolean {
  return attempts > 0;
}

/**
 * What a response makes of a command. One that comes late, or again, does not change the status the ledger shows;
 * what the device reports is recorded all the same, once. Late is what comes when the command's time is over, whether or
 * not that was noticed before.
 */
export function answered(current: Command, response: CommandResponse, at: Date): Step {
  const over = expired(current, at);
  const command = over?.command ?? current;
  const entered: Entered[] = [...(over?.entered ?? [])];
  const late = command.status === 'expired' || command.status === 'cancelled';
  let recorded: Command = {
    ...command,
    sentAt: command.sentAt && earliest(command.sentAt, at),
    acknowledgedAt: earliest(at, command.acknowledgedAt, command.completedAt),
    ...(response.status !== 'acknowledged' &&
      command.completedAt === null && { completedAt: at, result: response.result, error: response.error }),
    // The first report stands; an acknowledgement is none yet.
    ...(late && command.completedAt === null && { lateResponse: response.status }),
  };
  if (recorded.status === 'queued') {
    // A device answers only what reached it, so it was sent without our record of it.
    recorded = { ...enter(recorded, 'sent'), sentAt: at };
    entered.push({ status: 'sent', at });
  }
  if (canBecome(recorded.status, response.status)) {
    recorded = enter(recorded, response.status);
    entered.push({ status: response.status, at });
  }
  return { command: recorded, entered };
}

/** Whether a command was ordered for the patient whose the device is since then. No clock is asked: replicas' may be apart. */
export function isFor({ patientSince }: Command, since: Date | null): boolean {
  return patientSince?.getTime() === since?.getTime();
}

/** Whose a device is, and since when: what was ordered before is not the new patient's to see. */
export interface CommandOwner extends Ownership {
  readonly patientSince?: Date | null;
}

/**
 * The event that tells of a status a command has entered. A status is entered once, so that makes the event's id: told
 * again, it is known.
 */
export function commandEvent(
  command: Command,
  { status, at }: Entered,
  { tenant, patientId, patientSince = null }: CommandOwner,
): DomainEvent {
  const type: EventType = `command.${status}`;
  // What was reported belongs to the status it made.
  const reported = status === 'completed' || status === 'failed';
  return {
    id: `${command.commandId}.${status}`,
    type,
    deviceId: command.deviceId,
    tenant,
    patientId: isFor(command, patientSince) ? patientId : null,
    time: at.toISOString(),
    data: {
      command_id: command.commandId,
      command: command.command,
      status,
      ...(reported && command.result !== null && { result: command.result }),
      ...(reported && command.error !== null && { error: command.error }),
    },
  };
}
