import { Pool, type PoolClient, type QueryConfig, type QueryResult, type QueryResultRow } from 'pg';
import type { AbandonedSessions } from './abandoned-sessions.js';
import { ConnectionWatch } from './connection-watch.js';

const CONNECT_TIMEOUT_MS = 5_000;
/** Two batches under way, what looks their devices up, and one to spare. */
const CONNECTIONS = 4;

/**
 * PostgreSQL connections of the way of a measurement, apart from those of requests, so that neither starves the other.
 * Whoever holds one must not ask for a second: they are few.
 */
export class IngestConnections {
  private readonly pool: Pool;

  /**
   * @param url where PostgreSQL is.
   * @param timeoutMs how long anybody may have a connection: a batch, with all that belongs to it.
   * @param onLost hears of connections that end while nobody uses them.
   * @param name what PostgreSQL knows them by.
   * @param max how many at most.
   */
  constructor(
    url: string,
    timeoutMs: number,
    abandoned: AbandonedSessions,
    onLost: (error: unknown) => void,
    name = 'mqtt-service-ingest',
    max = CONNECTIONS,
  ) {
    this.pool = new Pool({
      connectionString: url,
      max,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      application_name: name,
      keepAlive: true,
    });
    this.pool.on('error', onLost);
    new ConnectionWatch(this.pool, timeoutMs, abandoned);
  }

  /** Runs one statement. @throws what PostgreSQL says, or that the connection was terminated. */
  async query<Row extends QueryResultRow>(statement: QueryConfig): Promise<QueryResult<Row>> {
    return this.lend((client) => client.query<Row>(statement));
  }

  /**
   * Lends a connection for several statements in a row. It is kept after an error that leaves it usable.
   * @param work gives it back without an open transaction.
   * @throws what the work throws; where the connection is lost or cut off, nobody knows what became of the work.
   */
  async lend<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    const client = await this.pool.connect();
    let broken: Error | undefined;
    // A connection that dies between two statements reports here; unheard, the event would end the process.
    const remember = (error: Error): void => {
      broken = error;
    };
    client.on('error', remember);
    try {
      return await work(client);
    } finally {
      client.off('error', remember);
      client.release(broken);
    }
  }

  /** Closes all connections; work under way is waited for. */
  async end(): Promise<void> {
    await this.pool.end();
  }
}
