import type { Command } from '../domain/command.js';

/** The way to a device. */
export abstract class CommandSender {
  /** Whether sending makes sense now. */
  abstract readonly available: boolean;

  /** Resolves when the broker has taken the command. @throws when it does not in time. */
  abstract send(command: Command, now: Date): Promise<void>;

  /** Calls back each time the way is open again. */
  abstract onAvailable(listener: () => void): void;
}
