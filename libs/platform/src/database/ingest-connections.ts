import { Pool, type PoolClient, type QueryConfig, type QueryResult, type QueryResultRow } from 'pg';

const CONNECT_TIMEOUT_MS = 5_000;
/** Two batches under way, what looks their devices up, and one to spare. */
const CONNECTIONS = 4;
const APPLICATION_NAME = 'mqtt-service-ingest';

/**
 * PostgreSQL connections of the way of a measurement, apart from those of requests, so that neither starves the other.
 *
 * Work that has not ended in time is cut off: a connection whose other end fell silent would hold its batch for ever.
 * What it had begun on the server is ended too, because the rows it has locked would hold up the next attempt.
 */
export class IngestConnections {
  private readonly pool: Pool;

  /**
   * @param url where PostgreSQL is.
   * @param timeoutMs how long work may take.
   * @param onLost hears of connections that end while nobody uses them.
   */
  constructor(
    url: string,
    private readonly timeoutMs: number,
    onLost: (error: unknown) => void,
  ) {
    this.pool = new Pool({
      connectionString: url,
      max: CONNECTIONS,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      application_name: APPLICATION_NAME,
      keepAlive: true,
    });
    this.pool.on('error', onLost);
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
    const cutOff = setTimeout(() => {
      broken = new Error('Query read timeout');
      void client.end().catch(() => undefined);
      this.terminate(client);
    }, this.timeoutMs);
    try {
      return await work(client);
    } finally {
      clearTimeout(cutOff);
      client.off('error', remember);
      client.release(broken);
    }
  }

  /** Closes all connections; work under way is waited for. */
  async end(): Promise<void> {
    await this.pool.end();
  }

  /** Ends what a connection was doing on the server, as far as that can be reached. */
  private terminate(client: PoolClient): void {
    const { processID } = client as unknown as { readonly processID?: number };
    this.pool
      .query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND application_name = $2',
        [processID, APPLICATION_NAME],
      )
      // The next attempt then waits for PostgreSQL to find out by itself.
      .catch(() => undefined);
  }
}
