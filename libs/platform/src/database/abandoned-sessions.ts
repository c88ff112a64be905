import { setTimeout as sleep } from 'node:timers/promises';
import { Client, type ClientBase } from 'pg';

const RETRY_MS = 1_000;
const ANSWER_WITHIN_MS = 3_000;

/**
 * Sessions of this process that PostgreSQL may still hold although their connection was given up: its other end fell
 * silent, and PostgreSQL finds that out late or never. What they have locked would hold everybody up, so each is ended
 * by its process id, as soon as PostgreSQL can be reached.
 */
export class AbandonedSessions {
  private readonly pids = new Set<number>();
  private readonly stopping = new AbortController();
  private ending = false;

  /** @param url where PostgreSQL is. */
  constructor(private readonly url: string) {}

  /** @param client a connection that is given up. */
  add(client: ClientBase): void {
    const { processID } = client as ClientBase & { readonly processID?: number | null };
    if (typeof processID !== 'number') return;
    this.pids.add(processID);
    if (!this.ending) void this.endAll();
  }

  /** Leaves the rest to PostgreSQL. */
  stop(): void {
    this.stopping.abort();
  }

  private async endAll(): Promise<void> {
    const { signal } = this.stopping;
    this.ending = true;
    while (this.pids.size > 0 && !signal.aborted) {
      const pids = [...this.pids];
      const done = await this.terminate(pids).catch(() => false);
      if (done) for (const pid of pids) this.pids.delete(pid);
      else await sleep(RETRY_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
    this.ending = false;
  }

  private async terminate(pids: readonly number[]): Promise<boolean> {
    const client = new Client({
      connectionString: this.url,
      application_name: 'mqtt-service-cleaner',
      connectionTimeoutMillis: ANSWER_WITHIN_MS,
      query_timeout: ANSWER_WITHIN_MS,
    });
    // Reported by what is awaited, too; unheard, the event would end the process.
    client.on('error', () => undefined);
    try {
      await client.connect();
      // By name as well: after a restart of PostgreSQL the number may be somebody else's.
      await client.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE pid = ANY ($1) AND usename = current_user AND application_name LIKE 'mqtt-service%'
           AND pid <> pg_backend_pid()`,
        [pids],
      );
      return true;
    } finally {
      void client.end().catch(() => undefined);
    }
  }
}
