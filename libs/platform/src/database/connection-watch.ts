import type { Pool, PoolClient } from 'pg';
import type { AbandonedSessions } from './abandoned-sessions.js';

/**
 * Cuts connections off that somebody has had for too long: one whose other end fell silent would hold its work
 * for ever. The work then fails as it does when a connection is lost, and the pool makes a new one.
 */
export class ConnectionWatch {
  private readonly timers = new Map<PoolClient, NodeJS.Timeout>();

  /**
   * @param pool whose connections.
   * @param timeoutMs how long anybody may have one.
   * @param abandoned hears of those that were cut off.
   */
  constructor(pool: Pool, timeoutMs: number, abandoned: AbandonedSessions) {
    pool.on('acquire', (client) => {
      const cutOff = (): void => {
        this.timers.delete(client);
        // With a statement under way, this destroys the socket.
        void client.end().catch(() => undefined);
        abandoned.add(client);
      };
      this.timers.set(client, setTimeout(cutOff, timeoutMs));
    });
    pool.on('release', (_error, client) => this.exempt(client));
  }

  /** Whoever has this connection may keep it for as long as it takes. */
  exempt(client: PoolClient): void {
    clearTimeout(this.timers.get(client));
    this.timers.delete(client);
  }
}
