import type { Command } from '../domain/command.js';

/**
 * What has become of a command that was to be sent. unheard: the broker took it, and says that nobody listens, so that
 * nobody gets it. unsent: it has not gone out. unanswered: the connection ended before
 * the broker had answered; `alone`: with nothing else that waited for an answer. refused: the broker will never take it,
 * and why.
 */
export type Sending =
  | { readonly kind: 'taken' | 'unheard' | 'unsent' }
  | { readonly kind: 'unanswered'; readonly alone: boolean }
  | { readonly kind: 'refused'; readonly error: string };

/** What may be sent. */
export interface Hold {
  /** Whether anything still is the caller's to send. */
  readonly holds: boolean;

  /** Whether a command is still the caller's to send. */
  has(command: Command): boolean;
}

/** The way to devices. */
export abstract class CommandSender {
  /** Whether sending makes sense now. */
  abstract readonly available: boolean;

  /** Whether it can be told that nobody listens. */
  abstract readonly tellsUnheard: boolean;

  /**
   * Hands commands to the broker, in their order, now or not at all.
   * @param hold is asked when a command would be written, which may be later than now; what it has no more is unsent.
   * @returns for each what has become of it: known once the broker has answered, or the connection has ended.
   * @throws when there is no way to the broker.
   */
  abstract send(commands: readonly Command[], now: Date, hold: Hold): Promise<readonly Sending[]>;

  /** Calls back each time the way is open again. */
  abstract onAvailable(listener: () => void): void;
}
