import { setTimeout as sleep } from 'node:timers/promises';
import {
  Injectable,
  Logger,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import type { Transaction } from '#kernel';
import { clientOf, Config, Database, errorCode } from '#platform';
import { SinceTooOld, SinceUnknown, type StreamPosition } from '../domain/stream-position.js';
import { StreamLog, type LogEntry, type LogRow, type NotedEvent } from '../ports/stream-log.js';
import { packBatch, packEvent, unpackBatch, unpackEvent } from './stream-log-body.js';

const RETRY_MS = 1_000;
const PRUNE_EVERY_MS = 60_000;
/** What is still to be written when the service stops has this long. */
const STOP_WITHIN_MS = 1_000;
/** A page has no more rows, and bytes, than that; but one row in any case. */
const PAGE_ROWS = 1_000;
const PAGE_BYTES = 65_536;

interface RowRecord {
  readonly epoch: number;
  readonly place: string;
  readonly other: string;
  readonly body: Buffer;
}

const APPEND = `INSERT INTO stream_log (epoch, place, other, body) VALUES ($1, $2, 0, $3) ON CONFLICT DO NOTHING`;

const NOTE = `
  INSERT INTO stream_log (epoch, place, other, body)
  SELECT $1, place, other, body FROM unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS new (place, other, body)
  ON CONFLICT DO NOTHING`;

// The size of a body is known without fetching it.
const READ = `
  SELECT epoch, place, other, body FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY epoch, place, other) - octet_length(body) AS before FROM (
      SELECT epoch, place, other, body FROM stream_log
      WHERE (epoch, place, other) > ($1, $2::bigint, $3::bigint) AND epoch <= $4
        AND (epoch < $4 OR (place <= $5 AND other <= $6))
        AND (epoch > $7 OR other = 0 OR other > $8)
      ORDER BY epoch, place, other LIMIT ${PAGE_ROWS}
    ) AS candidates
  ) AS measured WHERE before < ${PAGE_BYTES} ORDER BY epoch, place, other`;

// What is gone is remembered in the same statement: nobody is to find a hole and take it for silence.
const PRUNE = `
  WITH gone AS (
    DELETE FROM stream_log WHERE at < now() - $1 * INTERVAL '1 millisecond' RETURNING epoch, place, other
  ), last AS (
    SELECT epoch, coalesce(max(place) FILTER (WHERE other = 0), 0) AS place, max(other) AS other FROM gone GROUP BY epoch
  )
  UPDATE stream_epochs SET pruned_place = greatest(pruned_place, place), pruned_other = greatest(pruned_other, other)
  FROM last WHERE last.epoch = stream_epochs.epoch`;

const KNOWS = `
  SELECT bool_or(epoch = $1) AS known,
         bool_or(CASE WHEN epoch = $1 THEN pruned_place > $2 OR pruned_other > $3
                      ELSE pruned_place > 0 OR pruned_other > 0 END) AS too_old
  FROM stream_epochs WHERE epoch BETWEEN $1 AND $4`;

interface Waiting {
  readonly events: readonly NotedEvent[];
  readonly done: () => void;
  readonly failed: (error: Error) => void;
}

/** The tables `stream_log` and `stream_epochs`. */
@Injectable()
export class PgStreamLog extends StreamLog implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly opened: Promise<number>;
  private readonly logger = new Logger('StreamLog');
  private readonly stopping = new AbortController();
  private resolveOpened: (epoch: number) => void = () => undefined;
  private pruning: NodeJS.Timeout | undefined;
  private waiting: Waiting[] = [];
  private writing: Promise<void> = Promise.resolve();

  constructor(
    private readonly database: Database,
    private readonly config: Config,
  ) {
    super();
    this.opened = new Promise((resolve) => (this.resolveOpened = resolve));
  }

  onApplicationBootstrap(): void {
    void this.open();
    this.pruning = setInterval(() => void this.prune(), PRUNE_EVERY_MS);
    this.pruning.unref();
  }

  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.pruning);
    await Promise.race([this.settled(), sleep(STOP_WITHIN_MS, undefined, { ref: false })]);
    this.stopping.abort();
  }

  async append(transaction: Transaction, entries: readonly LogEntry[]): Promise<void> {
    const last = entries.at(-1);
    if (!last) return;
    const epoch = await this.opened;
    await clientOf(transaction).query({
      name: 'stream-log-append',
      text: APPEND,
      values: [epoch, last.place, packBatch(entries)],
    });
  }

  note(events: readonly NotedEvent[]): Promise<void> {
    return new Promise((done, failed) => {
      this.waiting.push({ events, done, failed });
      if (this.waiting.length === 1) this.writing = this.writing.then(() => this.write());
    });
  }

  async settled(): Promise<void> {
    await this.writing;
  }

  async check({ epoch, place, other }: StreamPosition, until: StreamPosition): Promise<void> {
    if (epoch === until.epoch && (place > until.place || other > until.other)) throw new SinceUnknown();
    const bounds = [epoch, place, other, until.epoch];
    const [found] = await this.database.query<{ known: boolean | null; too_old: boolean | null }>(
      KNOWS,
      bounds,
    );
    if (!found?.known) throw new SinceUnknown();
    if (found.too_old) {
      throw new SinceTooOld();
    }
  }

  async read(after: StreamPosition, until: StreamPosition, from: LogRow | null): Promise<readonly LogRow[]> {
    // The row that holds its message may hold more of it.
    const key = from ?? { epoch: after.epoch, place: after.place, other: -1 };
    const bounds = [until.epoch, until.place, until.other, after.epoch, after.other];
    const records = await this.database.query<RowRecord>(READ, [key.epoch, key.place, key.other, ...bounds]);
    // Not before: what has gone meanwhile would be missing.
    await this.check(after, until);
    return records.map(({ epoch, place, other, body }) => ({
      epoch,
      place: Number(place),
      other: Number(other),
      entries: () =>
        other === '0' ? unpackBatch(body) : [{ place: Number(place), event: unpackEvent(body) }],
    }));
  }

  private async open(): Promise<void> {
    await this.database.start();
    await this.persist(async () => {
      const [row] = await this.database.query<{ epoch: number }>(
        'INSERT INTO stream_epochs DEFAULT VALUES RETURNING epoch',
      );
      if (row) this.resolveOpened(row.epoch);
    });
    await this.prune();
  }

  private async write(): Promise<void> {
    const epoch = await Promise.race([this.opened, aborted(this.stopping.signal)]);
    const lot = this.waiting.splice(0);
    const events = lot.flatMap((waiting) => waiting.events);
    await this.persist(async () => {
      await this.database.query(NOTE, [
        epoch,
        events.map(({ place }) => place),
        events.map(({ other }) => other),
        events.map(({ event }) => packEvent(event)),
      ]);
      for (const { done } of lot) done();
    });
    for (const { failed } of lot) failed(new Error('the service stops'));
  }

  private async prune(): Promise<void> {
    try {
      await this.database.query(PRUNE, [this.config.streamReplay]);
    } catch (error) {
      this.logger.debug(`Not pruned (${errorCode(error) ?? 'unknown error'}); again in a minute`);
    }
  }

  /** Repeats work until it succeeds or the service stops. */
  private async persist(work: () => Promise<void>): Promise<void> {
    const { signal } = this.stopping;
    let lastProblem = '';
    while (!signal.aborted) {
      try {
        await work();
        return;
      } catch (error) {
        const problem = errorCode(error) ?? (error instanceof Error ? error.message : 'unknown error');
        if (problem !== lastProblem) this.logger.warn(`Not written (${problem}); trying again every second`);
        lastProblem = problem;
      }
      await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined);
    }
  }
}

function aborted(signal: AbortSignal): Promise<null> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(null), { once: true }));
}
