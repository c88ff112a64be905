import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable, Logger } from '@nestjs/common';
import { Clock } from '#kernel';
import { Config, Database, errorCode, MqttTransport, type Connection } from '#platform';
import { expiredPartitions, partitionsAhead, type MonthPartition } from '../domain/partition-plan.js';

/** Of several replicas, the one that holds this advisory lock does the work. */
const PARTITIONS_LOCK = 0x6d71_7470; // "mqtp"
const EVERY_MS = 3_600_000;
const RETRY_MS = 60_000;
/** While a strong lock is waited for, everybody else queues behind it: rather give up and come back later. */
const LOCK_TIMEOUT = '1s';
/** Old rows are deleted by ranges of this many 8 kB blocks, some 5,000 readings. */
const SWEPT_BLOCKS = 64;

const COLUMNS = 'id, timestamp, received_at, device_id, metric_type, value, unit, metadata';

/**
 * Makes the monthly partitions of `device_readings` before they are needed, and deletes what is older than
 * READINGS_RETENTION. It never stops the service: what fails is tried again, and readings without a partition
 * of their own are kept in the default one meanwhile.
 */
@Injectable()
export class PgReadingPartitions {
  private readonly logger = new Logger('Partitions');
  private readonly stopping = new AbortController();
  private running: Promise<void> | undefined;
  private lastProblem = '';
  /** The PostgreSQL process at work, for {@link stop} to interrupt. */
  private backend: number | undefined;

  constructor(
    private readonly database: Database,
    private readonly config: Config,
    private readonly clock: Clock,
    transport: MqttTransport,
  ) {
    // With the intake, not after it: batches under way may be waiting for a partition to be made.
    transport.onDrain(() => this.stop());
  }

  /** Begins as soon as the schema is up, and goes on until {@link stop}. */
  start(): void {
    this.running ??= this.run();
  }

  /** Interrupts what is under way, which is rolled back and done at the next start. */
  private async stop(): Promise<void> {
    this.stopping.abort();
    if (this.backend !== undefined)
      await this.database.query('SELECT pg_cancel_backend($1)', [this.backend]).catch(() => undefined);
    await this.running;
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    await Promise.race([this.database.start(), aborted(signal)]);
    while (!signal.aborted) {
      const pause = (await this.attempt()) ? EVERY_MS : RETRY_MS;
      await sleep(pause, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Does what there is to do, and says what prevents it, once. @returns whether nothing is left to do. */
  private async attempt(): Promise<boolean> {
    try {
      const done = await this.maintain();
      this.lastProblem = '';
      return done;
    } catch (error) {
      if (this.stopping.signal.aborted) return false;
      const problem = errorCode(error) ?? (error instanceof Error ? error.message : 'unknown error');
      if (problem !== this.lastProblem)
        this.logger.warn(`Not up to date (${problem}); trying again every minute`);
      this.lastProblem = problem;
      return false;
    }
  }

  /** @returns false when another replica is at it. */
  private async maintain(): Promise<boolean> {
    return this.database.borrow(async (connection) => {
      const [session] = await connection.query<{ locked: boolean; backend: number; now: Date }>(
        'SELECT pg_try_advisory_lock($1) AS locked, pg_backend_pid() AS backend, now() AS now',
        [PARTITIONS_LOCK],
      );
      if (!session?.locked) return false;
      this.backend = session.backend;
      try {
        // The earlier of two clocks: one that is ahead must not delete what is not old.
        const now = new Date(Math.min(session.now.getTime(), this.clock.now().getTime()));
        const { readingsRetention } = this.config;
        const cutoff = readingsRetention === undefined ? null : new Date(now.getTime() - readingsRetention);
        await this.makeAhead(connection, now, cutoff);
        if (cutoff) await this.expire(connection, cutoff);
        return true;
      } finally {
        this.backend = undefined;
        await connection.query('SELECT pg_advisory_unlock($1)', [PARTITIONS_LOCK]).catch(() => undefined);
      }
    });
  }

  private async makeAhead(connection: Connection, now: Date, cutoff: Date | null): Promise<void> {
    const present = new Set(await this.partitions(connection));
    for (const partition of partitionsAhead(now, cutoff)) {
      if (present.has(partition.name)) continue;
      const moved = await this.make(connection, partition);
      this.logger.log(`${partition.name} made${moved > 0 ? `, ${moved} readings moved into it` : ''}`);
    }
  }

  /**
   * Makes one partition, with what the default one holds of its month.
   * @returns how many readings that was.
   */
  private async make(connection: Connection, { name, from, to }: MonthPartition): Promise<number> {
    const ofMonth = `timestamp >= '${from}' AND timestamp < '${to}'`;
    const copy = `INSERT INTO ${name} (${COLUMNS}) SELECT ${COLUMNS} FROM device_readings_default AS strays WHERE ${ofMonth}`;
    return this.transaction(connection, async (step) => {
      await step(`CREATE TABLE ${name} (LIKE device_readings INCLUDING DEFAULTS INCLUDING CONSTRAINTS)`);
      // Most of the work is done while readings still go into the default partition ..
      await step(copy);
      await step(
        `ALTER TABLE ${name} ADD CONSTRAINT ${name}_once UNIQUE (device_id, timestamp, metric_type, value)`,
      );
      // .. and the rest while none does. The lock on the parent is what keeps an insert from failing: without it,
      // one that was on its way into the default partition would find that its row no longer belongs there.
      await step('LOCK TABLE ONLY device_readings IN SHARE ROW EXCLUSIVE MODE');
      await step('LOCK TABLE device_readings_default IN ACCESS EXCLUSIVE MODE');
      // Statistics that are behind must not talk the planner into a scan for each row: everybody waits.
      await step('SET LOCAL enable_nestloop = off');
      await step(`${copy} AND NOT EXISTS (SELECT FROM ${name} AS copied WHERE copied.id = strays.id)`);
      const [moved] = await step<{ count: string }>(
        `WITH moved AS (DELETE FROM device_readings_default WHERE ${ofMonth} RETURNING 1)
         SELECT count(*) FROM moved`,
      );
      await step(
        `ALTER TABLE device_readings ATTACH PARTITION ${name} FOR VALUES FROM ('${from}') TO ('${to}')`,
      );
      return Number(moved?.count);
    });
  }

  private async expire(connection: Connection, cutoff: Date): Promise<void> {
    for (const name of expiredPartitions(await this.partitions(connection), cutoff)) {
      // PostgreSQL locks the parent first, as an insert does, so that the two can't deadlock.
      await this.transaction(connection, (step) => step(`DROP TABLE ${name}`));
      this.logger.log(`${name} dropped: older than READINGS_RETENTION`);
    }
    for (const table of ['device_readings_default', 'device_waveforms']) {
      const deleted = await this.sweep(connection, table, cutoff);
      if (deleted > 0) this.logger.log(`${deleted} rows of ${table} deleted: older than READINGS_RETENTION`);
    }
  }

  /**
   * Deletes old rows, a few blocks at a time. What a device without a set clock has just sent looks old
   * and is not: it has to have been here as long, too.
   * @returns how many were deleted.
   */
  private async sweep(connection: Connection, table: string, cutoff: Date): Promise<number> {
    const [size] = await connection.query<{ blocks: string }>(
      `SELECT pg_relation_size($1::regclass) / current_setting('block_size')::int AS blocks`,
      [table],
    );
    let deleted = 0;
    for (let block = 0; block < Number(size?.blocks); block += SWEPT_BLOCKS) {
      this.stopping.signal.throwIfAborted();
      const [swept] = await connection.query<{ count: string }>(
        `WITH swept AS (
           DELETE FROM ${table} WHERE ctid >= $1::tid AND ctid < $2::tid AND timestamp < $3 AND received_at < $3
           RETURNING 1
         )
         SELECT count(*) FROM swept`,
        [`(${block},0)`, `(${block + SWEPT_BLOCKS},0)`, cutoff.toISOString()],
      );
      deleted += Number(swept?.count);
    }
    return deleted;
  }

  /** @returns the names of all partitions. */
  private async partitions(connection: Connection): Promise<readonly string[]> {
    const rows = await connection.query<{ name: string }>(
      `SELECT relname AS name FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
       WHERE inhparent = 'device_readings'::regclass`,
    );
    return rows.map(({ name }) => name);
  }

  /** All of the steps, or none; gives up on a lock after {@link LOCK_TIMEOUT}. */
  private async transaction<T>(
    connection: Connection,
    work: (step: Connection['query']) => Promise<T>,
  ): Promise<T> {
    const step: Connection['query'] = (sql, parameters) => {
      this.stopping.signal.throwIfAborted();
      return connection.query(sql, parameters);
    };
    await connection.query('BEGIN');
    try {
      await connection.query(`SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'`);
      const result = await work(step);
      await connection.query('COMMIT');
      return result;
    } catch (error) {
      await connection.query('ROLLBACK').catch(() => undefined);
      throw error;
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
