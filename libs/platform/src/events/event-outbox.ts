import type { PoolClient } from 'pg';
import type { IngestConnections } from '../database/ingest-connections.js';
import { EventMessage } from './event-message.js';

/** One replica at a time sends what waits: two would send one device's events past each other. */
const DRAIN_LOCK = 0x6576_6f75; // "evou"
/** Events sent together. */
const LOT = 1_000;
const LOT_BYTES = 4_194_304;
/** Longer than it takes a system to be given up that does not answer. */
const IDLE_IN_TRANSACTION = '25s';

/** Before the first id. */
const START = '0';

interface OutboxRow {
  readonly id: string;
  readonly type: string;
  readonly device_id: string | null;
  readonly event: string;
}

/** What waits. */
export interface OutboxSize {
  readonly rows: number;
  readonly bytes: number;
  /** Since when the first of them has waited, by the database's clock; null where nothing waits. */
  readonly oldest: Date | null;
}

/** When events may be appended. */
export interface OutboxLimits {
  readonly bytes: number;
  /** Milliseconds that the oldest may have waited; null: as long as it takes. */
  readonly age: number | null;
}

/** Events that wait for the event system, in the database: those of all replicas, in one order. */
export class EventOutbox {
  /** Nothing waits up to here. Without it, each look would walk over all that has been sent since the last vacuum. */
  private after = START;

  constructor(private readonly connections: IngestConnections) {}

  /** @throws what PostgreSQL says, here as below. */
  async size(): Promise<OutboxSize> {
    const { rows } = await this.connections.query<{ rows: string; bytes: string; oldest: Date | null }>({
      name: 'events-outbox-size',
      text: `
        SELECT rows, bytes, CASE WHEN rows > 0 THEN
          (SELECT waiting_since FROM events_outbox WHERE id > $1 ORDER BY id LIMIT 1) END AS oldest
        FROM events_outbox_size`,
      values: [this.after],
    });
    const [size] = rows;
    return { rows: Number(size?.rows), bytes: Number(size?.bytes), oldest: size?.oldest ?? null };
  }

  /**
   * Appends events behind all that wait.
   * @returns false when the limits do not allow it. The first are always allowed.
   */
  async append(messages: readonly EventMessage[], limits: OutboxLimits): Promise<boolean> {
    const bytes = messages.reduce((sum, message) => sum + message.bytes, 0);
    const { rowCount } = await this.connections.query({
      name: 'events-outbox-append',
      // The row of the size is locked before ids are given out: the rows are read, then sorted, then numbered.
      text: `
        WITH room AS (
          UPDATE events_outbox_size SET rows = rows + cardinality($1::text[]), bytes = bytes + $5
          WHERE rows = 0 OR (bytes + $5 <= $6 AND ($7::float8 IS NULL OR clock_timestamp() - interval '1 ms' * $7 <
            (SELECT waiting_since FROM events_outbox WHERE id > $8 ORDER BY id LIMIT 1)))
          RETURNING true)
        INSERT INTO events_outbox (type, device_id, event, bytes)
        SELECT type, device_id, event, row_bytes
        FROM room, unnest($1::text[], $2::text[], $3::text[], $4::int[])
          WITH ORDINALITY AS lot (type, device_id, event, row_bytes, place)
        ORDER BY place`,
      values: [
        messages.map(({ type }) => type),
        messages.map(({ deviceId }) => deviceId),
        messages.map(({ text }) => text),
        messages.map((message) => message.bytes),
        bytes,
        limits.bytes,
        limits.age,
        this.after,
      ],
    });
    return rowCount !== 0;
  }

  /**
   * Sends the first that wait, and takes them out once they are sent.
   * @param send rejects when they are not; they then stay where they are.
   * @returns how many were sent; null when another replica is at it.
   */
  async drain(send: (messages: readonly EventMessage[]) => Promise<void>): Promise<number | null> {
    const { after } = this;
    // Should this fail, the database may be another, with other ids.
    this.after = START;
    const sent = await this.connections.lend(async (client) => {
      await client.query('BEGIN');
      try {
        const outcome = await drainLocked(client, after, send);
        await client.query('COMMIT');
        return outcome;
      } catch (error) {
        await client.query('ROLLBACK').catch(() => undefined);
        throw error;
      }
    });
    // Where nothing is found, it was perhaps looked for in the wrong place.
    if (sent !== 'nothing found') this.after = sent?.last ?? after;
    return sent === 'nothing found' ? 0 : (sent?.count ?? null);
  }
}

type Sent = { readonly count: number; readonly last: string } | 'nothing found';

/** In a transaction, which ends with what was sent taken out. */
async function drainLocked(
  client: PoolClient,
  after: string,
  send: (messages: readonly EventMessage[]) => Promise<void>,
): Promise<Sent | null> {
  // A process that stands still does not keep the others from it.
  await client.query(`SET LOCAL idle_in_transaction_session_timeout = '${IDLE_IN_TRANSACTION}'`);
  const lock = await client.query<{ mine: boolean }>('SELECT pg_try_advisory_xact_lock($1) AS mine', [
    DRAIN_LOCK,
  ]);
  if (lock.rows[0]?.mine !== true) return null;
  const { rows } = await client.query<OutboxRow>({
    name: 'events-outbox-first',
    text: `
      SELECT id, type, device_id, event
      FROM (SELECT *, sum(bytes) OVER (ORDER BY id) - bytes AS before
            FROM (SELECT * FROM events_outbox WHERE id > $1 ORDER BY id LIMIT ${LOT}) AS first) AS counted
      WHERE before < ${LOT_BYTES} ORDER BY id`,
    values: [after],
  });
  const last = rows.at(-1)?.id;
  if (last === undefined) {
    if (after === START) await countAnew(client);
    return 'nothing found';
  }
  await send(rows.map(({ type, device_id, event }) => new EventMessage(type, device_id, event)));
  await client.query({
    name: 'events-outbox-sent',
    text: `
      WITH sent AS (DELETE FROM events_outbox WHERE id > $1 AND id <= $2 RETURNING bytes)
      UPDATE events_outbox_size AS size SET rows = rows - (SELECT count(*) FROM sent),
        bytes = size.bytes - (SELECT coalesce(sum(bytes), 0) FROM sent)`,
    values: [after, last],
  });
  return { count: rows.length, last };
}

/** Somebody has taken rows out by hand. Whoever appends has the row of the size locked, so this looks after them. */
async function countAnew(client: PoolClient): Promise<void> {
  await client.query('SELECT FROM events_outbox_size FOR UPDATE');
  await client.query(`
    UPDATE events_outbox_size SET (rows, bytes) = (SELECT count(*), coalesce(sum(bytes), 0) FROM events_outbox)`);
}
