import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { Client } from 'pg';
import type { AbandonedSessions } from './abandoned-sessions.js';
import { errorCode } from './database-errors.js';

/** The first half of the advisory lock's key, which tells it from other locks of the database. */
const LOCK_CLASS = 0x6d71_7473; // "mqts"
const ASK_EVERY_MS = 1_000;
const ANSWER_WITHIN_MS = 3_000;
const GOODBYE_MS = 1_000;
const STANDSTILL_MS = 6_000;
/** A holder that has stood still for so long may have lost the lease meanwhile: it may have asked a second before. */
export const HOLDER_PAUSE_MS = 4_000;

/**
 * The right to use a durable session: an advisory lock of PostgreSQL, kept for as long as a connection of its own lives.
 * When its holder dies, PostgreSQL lets go of the lock, at once where the connection ends, within 5 s where it only falls
 * silent, and within 6 s where the process stands still; others then get it within a second.
 *
 * A holder that loses the database does not know whether it still holds the lease. It goes on with what it has, since
 * nothing can be stored meanwhile, and does not connect anew ({@link confirm}) before it knows.
 */
export class SessionLease {
  private readonly logger = new Logger('Lease');
  private readonly key: number;
  private state: 'unknown' | 'held' | 'elsewhere' = 'unknown';
  private stopping = new AbortController();
  private client: Client | undefined;
  private loop: Promise<void> | undefined;

  /**
   * @param url where the lock is taken; null: nobody else can use the session, and no lock is needed.
   * @param name what is leased: the client id of the session.
   * @param abandoned hears of connections that were given up, so that they don't keep the lock.
   * @param ready resolves when the database can be used: what the session collects could not be stored before.
   */
  constructor(
    private readonly url: string | null,
    name: string,
    private readonly ready: Promise<void>,
    private readonly abandoned: AbandonedSessions,
  ) {
    this.key = createHash('sha256').update(name).digest().readInt32BE(0);
  }

  /** Somebody else holds it for certain. */
  get isHeldElsewhere(): boolean {
    return this.state === 'elsewhere';
  }

  /** It is held, as far as is known; the connection that holds it has not ended. */
  get isHeld(): boolean {
    return this.state === 'held';
  }

  /** Others can get it. */
  get isShared(): boolean {
    return this.url !== null;
  }

  /** @param onChange hears when the lease is got, and when it is found with somebody else. */
  start(onChange: (held: boolean) => void): void {
    const { url } = this;
    this.loop = url === null ? this.assume(onChange) : this.ready.then(() => this.keep(url, onChange));
  }

  /** Asks the database. @returns whether the lease is held for certain. */
  async confirm(): Promise<boolean> {
    const { url, client, state } = this;
    if (state !== 'held') return false;
    if (url === null) return true;
    if (!client) return false;
    return client.query('SELECT 1').then(
      () => this.client === client,
      () => false,
    );
  }

  /** Lets go of it. */
  async stop(): Promise<void> {
    this.stopping.abort();
    const ended = this.client?.end().catch(() => undefined);
    await Promise.race([Promise.all([ended, this.loop]), sleep(GOODBYE_MS, undefined, { ref: false })]);
  }

  private async assume(onChange: (held: boolean) => void): Promise<void> {
    await this.ready;
    if (this.stopping.signal.aborted) return;
    this.state = 'held';
    onChange(true);
  }

  private async keep(url: string, onChange: (held: boolean) => void): Promise<void> {
    const { signal } = this.stopping;
    const stopped = (): boolean => signal.aborted;
    let lastProblem = '';
    while (!stopped()) {
      const client = new Client({
        connectionString: url,
        application_name: 'mqtt-service-lease',
        connectionTimeoutMillis: ANSWER_WITHIN_MS,
        query_timeout: ANSWER_WITHIN_MS,
        keepAlive: true,
        keepAliveInitialDelayMillis: 2_000,
      });
      // Reported by the query that fails, too; unheard, the event would end the process.
      client.on('error', () => undefined);
      const lost = new AbortController();
      client.on('end', () => lost.abort());
      try {
        await client.connect();
        await detectSilence(client);
        this.client = client;
        lastProblem = '';
        await this.hold(client, AbortSignal.any([signal, lost.signal]), onChange);
      } catch (error) {
        const problem = errorCode(error) ?? (error instanceof Error ? error.message : 'unknown error');
        if (problem !== lastProblem && !stopped())
          this.logger.warn(`The database that keeps the lease does not answer (${problem})`);
        lastProblem = problem;
      }
      this.client = undefined;
      // Not awaited: a connection that has fallen silent takes long to end.
      void client.end().catch(() => undefined);
      if (!stopped()) this.abandoned.add(client);
      if (this.state === 'held') {
        this.state = 'unknown';
        // At once, before one that stands by asks: where only this connection was lost, the messages in hand are still
        // being stored, and the next holder would be given them too.
        continue;
      }
      await sleep(ASK_EVERY_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /**
   * Asks for the lock until it is had, then for signs of life. Ends by the error of a connection that is lost.
   * @param wake aborts the wait between two questions: the connection has ended, or nothing more is to be asked.
   */
  private async hold(client: Client, wake: AbortSignal, onChange: (held: boolean) => void): Promise<void> {
    const { signal } = this.stopping;
    let mine = false;
    while (!signal.aborted) {
      if (mine) {
        await client.query('SELECT 1');
      } else {
        const { rows } = await client.query<{ mine: boolean }>(
          'SELECT pg_try_advisory_lock($1, $2) AS mine',
          [LOCK_CLASS, this.key],
        );
        mine = rows[0]?.mine === true;
        const state = mine ? 'held' : 'elsewhere';
        if (state !== this.state) {
          this.state = state;
          this.logger.log(mine ? 'This replica holds the session' : 'Another replica holds the session');
          onChange(mine);
        }
      }
      await sleep(ASK_EVERY_MS, undefined, { signal: wake }).catch(() => undefined);
    }
  }
}

/**
 * Makes PostgreSQL notice within 5 s that the holder's machine is gone, and within 6 s that a process stands still whose
 * machine answers for it: a holder asks every second. Not every platform has every setting, nor does a pooler, nor
 * PostgreSQL 13 the last; the lease then waits for the operating system.
 */
async function detectSilence(client: Client): Promise<void> {
  for (const setting of [
    'tcp_keepalives_idle = 2',
    'tcp_keepalives_interval = 1',
    'tcp_keepalives_count = 3',
    'tcp_user_timeout = 5000',
    `idle_session_timeout = ${STANDSTILL_MS}`,
  ])
    await client.query(`SET ${setting}`).catch(() => undefined);
}
