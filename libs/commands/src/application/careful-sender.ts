import type { Command } from '../domain/command.js';
import type { CommandSender, Hold, Sending } from '../ports/command-sender.js';

/** Times the connection may end over a command that was alone under way. */
const MAX_ENDS = 3;
/** A connection that ends later than this has other reasons: the broker, or the way to it, had fallen silent. */
const BLAMED_WITHIN_MS = 5_000;

/**
 * Finds commands that a broker answers by ending the connection, as those of MQTT 3.1.1 do with what is too large for them
 * or not allowed: sent again and again, such a one would hold up all others.
 *
 * What was under way when a connection ended is suspected. While there is a suspect, commands are sent one at a time, and
 * one that ends the connection all alone, several times, is refused. A broker that is restarted meets the same command
 * alone under way as many times hardly ever, and as long as there is no connection nothing is sent.
 */
export class CarefulSender {
  /** How often the connection has ended while the command was alone under way. */
  private readonly suspects = new Map<string, number>();
  private turn: Promise<unknown> = Promise.resolve();

  constructor(private readonly sender: CommandSender) {}

  /** As {@link CommandSender.send}; it does not throw. */
  async send(commands: readonly Command[], now: () => Date, hold: Hold): Promise<readonly Sending[]> {
    if (this.suspects.size > 0) return this.sendOneByOne(commands, now, hold);
    const begun = performance.now();
    const sendings = await this.sendTogether(commands, now(), hold);
    return sendings.map((sending, index) => this.judge(commands[index] as Command, sending, begun));
  }

  /** Whom to ask the ledger about. */
  get suspected(): readonly string[] {
    return [...this.suspects.keys()];
  }

  /** @param commandIds those suspects that are still queued: of the others somebody else knows what became. */
  keepOnly(commandIds: readonly string[]): void {
    const kept = new Set(commandIds);
    for (const id of this.suspects.keys()) if (!kept.has(id)) this.suspects.delete(id);
  }

  private async sendTogether(
    commands: readonly Command[],
    now: Date,
    hold: Hold,
  ): Promise<readonly Sending[]> {
    return this.sender
      .send(commands, now, hold)
      .catch(() => commands.map((): Sending => ({ kind: 'unsent' })));
  }

  private async sendOneByOne(
    commands: readonly Command[],
    now: () => Date,
    hold: Hold,
  ): Promise<readonly Sending[]> {
    const before = this.turn;
    let done = (): void => undefined;
    this.turn = new Promise<void>((resolve) => (done = resolve));
    await before;
    const sendings: Sending[] = [];
    for (const command of commands) {
      const begun = performance.now();
      const [sending = { kind: 'unsent' as const }] = await this.sendTogether([command], now(), hold);
      sendings.push(this.judge(command, sending, begun));
      // In their order, or not at all.
      if (sending.kind === 'unanswered' || sending.kind === 'unsent') break;
    }
    done();
    return commands.map((_command, index) => sendings[index] ?? { kind: 'unsent' });
  }

  private judge({ commandId }: Command, sending: Sending, begun: number): Sending {
    if (sending.kind === 'unsent') return sending;
    if (sending.kind !== 'unanswered') {
      this.suspects.delete(commandId);
      return sending;
    }
    const isToBlame = sending.alone && performance.now() - begun < BLAMED_WITHIN_MS;
    const ends = (this.suspects.get(commandId) ?? 0) + (isToBlame ? 1 : 0);
    if (ends < MAX_ENDS) {
      this.suspects.set(commandId, ends);
      return sending;
    }
    this.suspects.delete(commandId);
    const error = `refused_by_broker: the connection ended each of the ${ends} times it was sent alone`;
    return { kind: 'refused', error };
  }
}
