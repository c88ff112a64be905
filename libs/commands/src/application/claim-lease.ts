import type { Command } from '../domain/command.js';
import { CLAIM_LEASE_MS } from '../ports/command.repository.js';
import type { Hold } from '../ports/command-sender.js';

/** What a command may take from being written to being at the broker: so much of the lease is left for that. */
const SPARE_MS = 2_000;

interface Instant {
  readonly steady: number;
  readonly wall: number;
}

/**
 * What of a claim is surely held: nobody else can have taken it up, sent, cancelled or ended it. It is counted from before
 * the ledger was asked, by both clocks: the monotonic one rests while a machine is suspended. What was lost once is lost,
 * whatever a renewal says later: others of the same queue may have been left out meanwhile.
 */
export class ClaimLease implements Hold {
  readonly claim = crypto.randomUUID();
  private begun = instant();
  private held: ReadonlySet<string> = new Set();
  private hasLapsed = false;

  /** Commands of the claim, as the ledger says. */
  took(commands: readonly Command[]): void {
    this.held = new Set(commands.map(({ commandId }) => commandId));
  }

  get holds(): boolean {
    const { steady, wall } = instant();
    this.hasLapsed ||=
      Math.max(steady - this.begun.steady, wall - this.begun.wall) >= CLAIM_LEASE_MS - SPARE_MS;
    return !this.hasLapsed && this.held.size > 0;
  }

  has({ commandId }: Command): boolean {
    return this.holds && this.held.has(commandId);
  }

  /**
   * Begins a renewal.
   * @returns takes what the ledger has renewed.
   */
  renewal(): (commandIds: ReadonlySet<string>) => void {
    const asked = instant();
    return (renewed) => {
      if (!this.holds) return;
      this.held = new Set([...this.held].filter((commandId) => renewed.has(commandId)));
      this.begun = asked;
    };
  }
}

function instant(): Instant {
  return { steady: performance.now(), wall: Date.now() };
}
