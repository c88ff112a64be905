import type { Command } from '../domain/command.js';

export type NewCommand = Pick<
  Command,
  'commandId' | 'deviceId' | 'command' | 'parameters' | 'createdBy' | 'createdAt' | 'expiresAt'
>;

/** The command ledger. All methods reject with a database error while the database is away. */
export abstract class CommandRepository {
  abstract insert(command: NewCommand): Promise<Command>;

  abstract find(deviceId: string, commandId: string): Promise<Command | null>;

  /** The device a command was given to, or null when there is no such command. */
  abstract deviceOf(commandId: string): Promise<string | null>;

  /** A page of a device's commands, newest first, starting behind `beforeId`. */
  abstract list(deviceId: string, beforeId: number | null, limit: number): Promise<readonly Command[]>;

  /** Changes a command under a row lock. @returns it as it now is, or null when there is none. */
  abstract update(
    deviceId: string,
    commandId: string,
    change: (command: Command) => Command,
  ): Promise<Command | null>;

  /**
   * Takes the device's oldest queued command that has not expired, under a row lock that other replicas skip,
   * has `send` do it, and stores what that returns.
   * @returns the stored command, or null when none is queued (or another replica is at it).
   */
  abstract sendNext(
    deviceId: string,
    now: Date,
    send: (command: Command) => Promise<Command>,
  ): Promise<Command | null>;

  /** Online devices with something queued. */
  abstract devicesToServe(now: Date): Promise<readonly string[]>;

  /** Cancels what is queued for devices that are decommissioned. @returns the commands, as they now are. */
  abstract cancelUndeliverable(): Promise<readonly Command[]>;

  /** Ends commands whose time is over. @returns them, as they now are. */
  abstract expire(now: Date): Promise<readonly Command[]>;
}
