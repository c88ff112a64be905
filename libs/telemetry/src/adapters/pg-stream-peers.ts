import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable, Logger, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { Client, type ClientBase, type QueryResultRow } from 'pg';
import { Config, Database, errorCode } from '#platform';
import { LAST_INDEX, StreamPosition } from '../domain/stream-position.js';
import { StreamPeers, type Peer } from '../ports/stream-peers.js';
import { FIRST_BYTES, firstOf } from './stream-log-body.js';

/** The first half of the advisory locks' key: whoever has a share of a run's lock belongs to it. */
const LOCK_CLASS = 0x6d71_7470; // "mqtp"
/** The second half where no run is meant. */
const NUMBERS = 0;
const CHANNEL = 'stream_peers';
const RETRY_MS = 500;
const ANSWER_WITHIN_MS = 5_000;
/** When this run lost its own connection, the others may have lost theirs, and are about to come back. */
const SPARED_MS = 5_000;

// In the order of their numbers, one after the other: who sees one sees all before it.
const OPEN = `INSERT INTO stream_epochs DEFAULT VALUES RETURNING epoch, pg_notify('${CHANNEL}', '')`;

const BURY = `
  UPDATE stream_epochs SET ended = true
  WHERE NOT ended AND CASE WHEN epoch = $1 THEN false ELSE pg_try_advisory_xact_lock(${LOCK_CLASS}, epoch) END
  RETURNING epoch, greatest(coalesce(told_place, 0), kept_place, pruned_place) AS told`;

const LAST_ROWS = `
  SELECT place, substr(body, 1, ${FIRST_BYTES}) AS head FROM stream_log
  WHERE epoch = $1 AND other = 0 AND place > $2 ORDER BY place`;

const CUT = `DELETE FROM stream_log WHERE epoch = $1 AND other = 0 AND place > $2`;

const LOOK = `
  SELECT epoch, told_place, told_index, told_other, ended FROM stream_epochs
  WHERE epoch <> $1 AND (NOT ended OR epoch > $2 OR epoch = ANY ($3)) ORDER BY epoch`;

const END = `
  SELECT coalesce(max(place) FILTER (WHERE other = 0), 0) AS place, max(other) AS other
  FROM stream_log WHERE epoch = $1`;

const ANNOUNCE = `
  WITH told AS (
    UPDATE stream_epochs SET told_place = $2, told_index = $3, told_other = $4 WHERE epoch = $1 RETURNING epoch
  )
  SELECT pg_notify('${CHANNEL}', '') FROM told`;

// Of this connection alone: what is lost with the database's machine is said again.
const NOT_WAITING = 'SET synchronous_commit = off';
// A machine that is gone is to be found out within 5 s: its locks would stand for its life.
const SHARE = `
  SELECT pg_advisory_lock_shared($1, $2), set_config('tcp_keepalives_idle', '2', false),
         set_config('tcp_keepalives_interval', '1', false), set_config('tcp_keepalives_count', '3', false)`;

/** This run was taken for dead: what it is about to write belongs to its next one. */
class RunEnded extends Error {
  override readonly name = 'RunEnded';
}

interface PeerRecord {
  readonly epoch: number;
  readonly told_place: string | null;
  readonly told_index: number;
  readonly told_other: string;
  readonly ended: boolean;
}

/**
 * The table `stream_epochs`, on a connection of its own. A run lives as long as one of its connections has a share of its
 * advisory lock: this one, and each that has written to the log. Whoever gets the whole lock knows that it is dead, and
 * that nothing it wrote is still on its way.
 */
@Injectable()
export class PgStreamPeers extends StreamPeers implements OnApplicationBootstrap, OnApplicationShutdown {
  readonly joined: Promise<void>;
  private readonly logger = new Logger('StreamPeers');
  private readonly stopping = new AbortController();
  private readonly listeners: (() => void)[] = [];
  private resolveJoined: () => void = () => undefined;
  private client: Client | undefined;
  /** 0: there is none yet. */
  private current = 0;
  /** The run in whose lock a connection has a share. */
  private readonly shares = new WeakMap<ClientBase, number>();
  private spared = 0;
  private burying: Promise<boolean> | null = null;
  /** When another run was last seen to live, or may have: this one was another then, or could not look. */
  aloneSince = new Date();

  /** Messages among which those are that a run had not acknowledged. */
  private readonly window: number;

  constructor(
    private readonly database: Database,
    config: Config,
  ) {
    super();
    this.window = 2 * config.mqtt.inflight;
    this.joined = new Promise((resolve) => (this.resolveJoined = resolve));
  }

  get epoch(): number {
    return this.current;
  }

  onApplicationBootstrap(): void {
    void this.database.start().then(() => this.keep());
  }

  onApplicationShutdown(): void {
    this.stopping.abort();
  }

  onNews(listener: () => void): void {
    this.listeners.push(listener);
  }

  async look(asked: readonly number[], bury: boolean): Promise<readonly Peer[]> {
    const own = this.current;
    const bounds = [own, Math.max(own, ...asked), asked];
    let records = await this.ask<PeerRecord>(LOOK, bounds);
    const mayBury = bury && Date.now() > this.spared;
    if (mayBury && records.some(({ ended }) => !ended) && (await this.bury(own)))
      records = await this.ask<PeerRecord>(LOOK, bounds);
    if (records.some(({ ended }) => !ended)) this.aloneSince = new Date();
    return records.map(({ epoch, told_place, told_index, told_other, ended }) => ({
      epoch,
      told:
        told_place === null
          ? null
          : new StreamPosition(epoch, Number(told_place), told_index, Number(told_other)),
      ended,
    }));
  }

  async endOf(epoch: number): Promise<StreamPosition> {
    const [end] = await this.ask<{ place: string; other: string | null }>(END, [epoch]);
    return new StreamPosition(epoch, Number(end?.place ?? 0), LAST_INDEX, Number(end?.other ?? 0));
  }

  async announce(told: StreamPosition | null): Promise<void> {
    const { place = null, index = null, other = null } = told ?? {};
    await this.ask(ANNOUNCE, [told?.epoch ?? this.current, place, index, other]);
  }

  /**
   * Gives a connection that is about to write to the log its share of a run's lock, once.
   * @throws RunEnded when there is no such run any more.
   */
  async share(client: ClientBase, epoch: number): Promise<void> {
    if (this.shares.get(client) === epoch) return;
    await client.query(SHARE, [LOCK_CLASS, epoch]);
    // In another statement: whoever buried it has committed that by now.
    const { rowCount } = await client.query('SELECT FROM stream_epochs WHERE epoch = $1 AND NOT ended', [
      epoch,
    ]);
    if (rowCount !== 1) throw new RunEnded();
    this.shares.set(client, epoch);
  }

  private async keep(): Promise<void> {
    const { signal } = this.stopping;
    const stopped = (): boolean => signal.aborted;
    let lastProblem = '';
    while (!stopped()) {
      const client = new Client({
        connectionString: this.database.url,
        application_name: 'mqtt-service-stream',
        connectionTimeoutMillis: ANSWER_WITHIN_MS,
        query_timeout: ANSWER_WITHIN_MS,
        keepAlive: true,
      });
      // Reported by the query that fails, too; unheard, the event would end the process.
      client.on('error', () => undefined);
      const lost = new Promise<void>((resolve) => client.once('end', resolve));
      client.on('notification', ({ processId }) => {
        if (processId !== (client as Client & { readonly processID?: number }).processID) this.tellNews();
      });
      try {
        await client.connect();
        await this.join(client);
        lastProblem = '';
        await Promise.race([lost, aborted(signal)]);
      } catch (error) {
        const problem = errorCode(error) ?? (error instanceof Error ? error.message : 'unknown error');
        if (problem !== lastProblem && !stopped()) this.logger.warn(`Not joined (${problem}); trying again`);
        lastProblem = problem;
      }
      // At once, before it is taken for dead.
      const wasJoined = this.client === client;
      this.client = undefined;
      this.aloneSince = new Date();
      this.spared = Date.now() + SPARED_MS;
      // Not awaited: a connection that has fallen silent takes long to end.
      void client.end().catch(() => undefined);
      if (stopped()) return;
      this.database.abandoned.add(client);
      if (!wasJoined) await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  private async join(client: Client): Promise<void> {
    await client.query(NOT_WAITING);
    await client.query(`LISTEN ${CHANNEL}`);
    if (this.current === 0 || !(await this.goesOn(client))) this.current = await this.open(client);
    this.client = client;
    this.aloneSince = new Date();
    this.resolveJoined();
    this.tellNews();
  }

  /** Once at a time: it is a transaction. @returns whether one was dead. */
  private bury(own: number): Promise<boolean> {
    this.burying ??= this.buryDead(own).finally(() => {
      this.burying = null;
    });
    return this.burying;
  }

  private async buryDead(own: number): Promise<boolean> {
    await this.ask('BEGIN', []);
    try {
      const dead = await this.ask<{ epoch: number; told: string }>(BURY, [own]);
      for (const { epoch, told } of dead) await this.cut(epoch, Number(told));
      if (dead.length > 0) await this.ask(`NOTIFY ${CHANNEL}`, []);
      await this.ask('COMMIT', []);
      return dead.length > 0;
    } catch (error) {
      await this.ask('ROLLBACK', []).catch(() => undefined);
      throw error;
    }
  }

  /**
   * Of batches that are stored at once, a later one may have been committed, and an earlier one not. Its messages were
   * neither told of nor acknowledged: they are delivered again, after those of the earlier one, and are told of then. Until
   * then they are not in the log.
   */
  private async cut(epoch: number, told: number): Promise<void> {
    const [last] = await this.ask<{ place: string | null }>(END, [epoch]);
    const begin = Number(last?.place ?? 0) - this.window;
    const rows = await this.ask<{ place: string; head: Buffer }>(LAST_ROWS, [epoch, Math.max(told, begin)]);
    // Of what was told long ago, nobody knows where its last row ended.
    let end = told >= begin ? told : null;
    for (const { place, head } of rows) {
      if (end !== null && firstOf(head) > end + 1) {
        await this.ask(CUT, [epoch, end]);
        return;
      }
      end = Number(place);
    }
  }

  private async goesOn(client: Client): Promise<boolean> {
    try {
      await this.share(client, this.current);
      return true;
    } catch (error) {
      if (!(error instanceof RunEnded)) throw error;
      this.logger.warn('The others took this run for dead; it goes on as another');
      await client.query('SELECT pg_advisory_unlock_all()');
      return false;
    }
  }

  private async open(client: Client): Promise<number> {
    await client.query('BEGIN');
    await client.query('SELECT pg_advisory_xact_lock($1, $2)', [LOCK_CLASS, NUMBERS]);
    const { rows } = await client.query<{ epoch: number }>(OPEN);
    const epoch = rows[0]?.epoch ?? 0;
    // Before it is seen: nobody is to take it for dead.
    await client.query(SHARE, [LOCK_CLASS, epoch]);
    await client.query('COMMIT');
    this.shares.set(client, epoch);
    return epoch;
  }

  private async ask<Row extends QueryResultRow>(sql: string, parameters: readonly unknown[]): Promise<Row[]> {
    const { client } = this;
    if (!client) throw new Error('the database is not reached');
    try {
      return (await client.query<Row>(sql, [...parameters])).rows;
    } catch (error) {
      // One that does not answer is given up.
      if (errorCode(error) === null) void client.end().catch(() => undefined);
      throw error;
    }
  }

  private tellNews(): void {
    for (const listener of this.listeners) listener();
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
