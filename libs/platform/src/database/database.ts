import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable, Logger } from '@nestjs/common';
import type { Pool, PoolClient, QueryConfig, QueryResultRow } from 'pg';
import { DataSource, type EntityTarget, type ObjectLiteral, type Repository } from 'typeorm';
import { DomainError } from '#kernel';
import { AbandonedSessions } from './abandoned-sessions.js';
import { ConnectionWatch } from './connection-watch.js';
import { errorCode } from './database-errors.js';
import { IngestConnections } from './ingest-connections.js';
import { InitialSchema1764000000000 } from './migrations/1764000000000-initial-schema.js';
import { QuarantineLookup1764000000002 } from './migrations/1764000000002-quarantine-lookup.js';
import { DeviceRegistryVersion1764000000003 } from './migrations/1764000000003-device-registry-version.js';
import { CompactReadings1764100000000 } from './migrations/1764100000000-compact-readings.js';
import { PatientSince1764200000000 } from './migrations/1764200000000-patient-since.js';
import { Tenants1764205000000 } from './migrations/1764205000000-tenants.js';
import { AuditLog1764210000000 } from './migrations/1764210000000-audit-log.js';
import { CommandDispatch1764300000000 } from './migrations/1764300000000-command-dispatch.js';
import { StatusHistory1764310000000 } from './migrations/1764310000000-status-history.js';
import { ServiceReplicas1764330000000 } from './migrations/1764330000000-service-replicas.js';
import { FormerPatients1764340000000 } from './migrations/1764340000000-former-patients.js';
import { CommandNews1764350000000 } from './migrations/1764350000000-command-news.js';
import { ProvenSilence1764360000000 } from './migrations/1764360000000-proven-silence.js';
import { StreamLog1764370000000 } from './migrations/1764370000000-stream-log.js';
import { EventsOutbox1764380000000 } from './migrations/1764380000000-events-outbox.js';
import { Webhooks1764390000000 } from './migrations/1764390000000-webhooks.js';
import { StreamPeers1764400000000 } from './migrations/1764400000000-stream-peers.js';
import { CommandPatient1764410000000 } from './migrations/1764410000000-command-patient.js';
import { WebhookTurns1764420000000 } from './migrations/1764420000000-webhook-turns.js';
import { UntoldChanges1764430000000 } from './migrations/1764430000000-untold-changes.js';

/** Replicas that start together migrate one after the other under this advisory lock. */
const MIGRATION_LOCK = 0x6d71_7474; // "mqtt"
const CONNECT_TIMEOUT_MS = 5_000;
const RETRY_MS = 1_000;
const PING_TIMEOUT_MS = 2_000;
/** A database that has fallen silent does not keep the service from stopping. */
const CLOSE_WITHIN_MS = 1_000;
const REQUEST_CONNECTIONS = 10;

/** One connection, borrowed for several statements in a row. */
export interface Connection {
  /** Runs one statement. @throws what PostgreSQL says. */
  query<Row>(sql: string, parameters?: readonly unknown[]): Promise<Row[]>;
}

type Entity = EntityTarget<ObjectLiteral> & (new () => object);

/**
 * The PostgreSQL the service stores in. It may be away at the start and at any time later:
 * the service goes on, requests get `database_unavailable`, and it connects when it can.
 */
@Injectable()
export class Database {
  private readonly logger = new Logger('Database');
  private readonly source: DataSource;
  /** For the way of a measurement: plain SQL on connections of its own. */
  readonly ingest: IngestConnections;
  /** For the audit log alone: requests that hold a connection wait for it, and would otherwise wait for one another. */
  readonly audit: IngestConnections;
  /** Where connections are reported that were given up. */
  readonly abandoned: AbandonedSessions;
  private readonly stopping = new AbortController();
  private connecting: Promise<void> | undefined;
  private migrated = false;
  private watch: ConnectionWatch | undefined;

  /**
   * @param url where it is: postgresql://user:password@host:port/database
   * @param timeoutMs how long a request or a batch of the ingest may have a connection.
   */
  constructor(
    readonly url: string,
    entities: readonly Entity[],
    private readonly timeoutMs: number,
  ) {
    this.source = new DataSource({
      type: 'postgres',
      url,
      entities: [...entities],
      migrations: [
        InitialSchema1764000000000,
        QuarantineLookup1764000000002,
        DeviceRegistryVersion1764000000003,
        CompactReadings1764100000000,
        PatientSince1764200000000,
        Tenants1764205000000,
        AuditLog1764210000000,
        CommandDispatch1764300000000,
        StatusHistory1764310000000,
        ServiceReplicas1764330000000,
        FormerPatients1764340000000,
        CommandNews1764350000000,
        ProvenSilence1764360000000,
        StreamLog1764370000000,
        EventsOutbox1764380000000,
        Webhooks1764390000000,
        StreamPeers1764400000000,
        CommandPatient1764410000000,
        WebhookTurns1764420000000,
        UntoldChanges1764430000000,
      ],
      synchronize: false,
      connectTimeoutMS: CONNECT_TIMEOUT_MS,
      applicationName: 'mqtt-service',
      extra: { max: REQUEST_CONNECTIONS, keepAlive: true },
      poolErrorHandler: (error: unknown) => this.connectionLost(error),
    });
    this.abandoned = new AbandonedSessions(url);
    this.ingest = new IngestConnections(url, timeoutMs, this.abandoned, (error) =>
      this.connectionLost(error),
    );
    const lost = (error: unknown): void => this.connectionLost(error);
    this.audit = new IngestConnections(url, timeoutMs, this.abandoned, lost, 'mqtt-service-audit', 1);
  }

  /**
   * Begins to connect and migrate, and goes on trying until it succeeds or {@link stop} is called.
   * Resolves then; whoever can do without the database need not wait.
   */
  start(): Promise<void> {
    return (this.connecting ??= this.connect());
  }

  /**
   * A TypeORM repository.
   * @throws DomainError unavailable/database_unavailable until the first connection.
   */
  repository<Row extends ObjectLiteral>(row: EntityTarget<Row>): Repository<Row> {
    this.assertReady();
    return this.source.getRepository(row);
  }

  /**
   * Runs one statement on the request pool.
   * @throws DomainError unavailable/database_unavailable until the first connection; else what PostgreSQL says.
   */
  async query<Row>(sql: string, parameters: readonly unknown[] = []): Promise<Row[]> {
    this.assertReady();
    return this.source.query<Row[]>(sql, [...parameters]);
  }

  /**
   * As {@link query}, past TypeORM, for statements that requests wait for; one with a name is planned once a connection.
   * @throws like {@link query}
   */
  async run<Row extends QueryResultRow>(statement: QueryConfig): Promise<Row[]> {
    this.assertReady();
    const { rows } = await this.requests.query<Row>(statement);
    return rows;
  }

  /**
   * Runs one statement and reads its rows as they are consumed. Destroy the stream to end early.
   * @throws like {@link query}; a failure in the middle is an `error` of the stream.
   */
  async stream(sql: string, parameters: readonly unknown[]): Promise<Readable> {
    this.assertReady();
    const runner = this.source.createQueryRunner();
    const client = (await runner.connect()) as PoolClient;
    // Reading on takes as long as the reader wants.
    this.watch?.exempt(client);
    const release = (): void => void runner.release().catch(() => undefined);
    try {
      const rows = await runner.stream(sql, [...parameters]);
      let complete = false;
      rows.once('end', () => {
        complete = true;
      });
      rows.once('close', () => {
        // pg-cursor 2 can't be relied on to have seen the last of its answers when it is closed early: whoever had the
        // connection next would get them for its own.
        if (!complete) void client.end().catch(() => undefined);
        release();
      });
      return rows;
    } catch (error) {
      release();
      throw error;
    }
  }

  /**
   * Lends a connection of the request pool for work of several statements: transactions, session locks. It may take long.
   * The work gives it back as it got it: no transaction open, no lock held, no setting changed.
   * @throws DomainError unavailable/database_unavailable until the first connection; else what the work throws.
   */
  async borrow<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
    this.assertReady();
    const runner = this.source.createQueryRunner();
    this.watch?.exempt((await runner.connect()) as PoolClient);
    try {
      return await work({
        query: <Row>(sql: string, parameters: readonly unknown[] = []) =>
          runner.query(sql, [...parameters]) as Promise<Row[]>,
      });
    } finally {
      await runner.release();
    }
  }

  /** Asks PostgreSQL for a sign of life. @returns the round trip in milliseconds. @throws when there is none. */
  async ping(): Promise<number> {
    this.assertReady();
    const begun = performance.now();
    await Promise.race([
      this.ingest.query({ text: 'SELECT 1' }),
      sleep(PING_TIMEOUT_MS, undefined, { ref: false }).then(() => {
        throw new Error('the database did not answer in time');
      }),
    ]);
    return performance.now() - begun;
  }

  /** Closes all connections; statements under way are waited for. */
  async stop(): Promise<void> {
    this.stopping.abort();
    this.abandoned.stop();
    await Promise.race([this.close(), sleep(CLOSE_WITHIN_MS, undefined, { ref: false })]);
  }

  private async close(): Promise<void> {
    await this.connecting;
    await this.ingest.end();
    await this.audit.end();
    if (this.source.isInitialized) await this.source.destroy();
  }

  private assertReady(): void {
    if (!this.migrated) {
      throw new DomainError(
        'unavailable',
        'database_unavailable',
        'The database is not reachable at the moment.',
      );
    }
  }

  private async connect(): Promise<void> {
    const { signal } = this.stopping;
    let lastProblem = '';
    while (!signal.aborted) {
      try {
        if (!this.source.isInitialized) await this.source.initialize();
        await this.migrate();
        this.watchRequests();
        this.migrated = true;
        this.logger.log('Connected, schema up to date');
        return;
      } catch (error) {
        const problem = errorCode(error) ?? (error instanceof Error ? error.message : 'unknown error');
        if (problem !== lastProblem)
          this.logger.warn(`Not reachable (${problem}); trying again every second`);
        lastProblem = problem;
        await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  private async migrate(): Promise<void> {
    const lock = this.source.createQueryRunner();
    try {
      await lock.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK]);
      await this.source.runMigrations({ transaction: 'all' });
    } finally {
      await lock.query('SELECT pg_advisory_unlock($1)', [MIGRATION_LOCK]).catch(() => undefined);
      await lock.release();
    }
  }

  /** TypeORM's own pool. */
  private get requests(): Pool {
    const { master } = this.source.driver as unknown as { readonly master: Pool };
    return master;
  }

  /** From now on: a migration may take long. */
  private watchRequests(): void {
    this.watch = new ConnectionWatch(this.requests, this.timeoutMs, this.abandoned);
  }

  private connectionLost(error: unknown): void {
    this.logger.warn(`A connection was lost (${errorCode(error) ?? 'no code'})`);
  }
}
