import type { Command } from '../domain/command.js';

/** The way to devices. */
export abstract class CommandSender {
  /** Whether sending makes sense now. */
  abstract readonly available: boolean;

  /**
   * Hands commands to the broker, in their order, now or not at all.
   * @returns for each whether the broker has taken it: known once it has answered, or the connection has ended.
   * @throws when there is no way to the broker.
   */
  abstract send(commands: readonly Command[], now: Date): Promise<readonly boolean[]>;

  /** Calls back each time the way is open again. */
  abstract onAvailable(listener: () => void): void;
}
