import { setTimeout as sleep } from 'node:timers/promises';
import {
  Injectable,
  Logger,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import type { Transaction } from '#kernel';
import { clientOf, Config, Database, errorCode } from '#platform';
import { SinceTooOld, SinceUnknown, StreamPosition } from '../domain/stream-position.js';
import {
  StreamLog,
  type LogEntry,
  type LogRow,
  type NotedEvent,
  type Range,
  type Stand,
  type Stretch,
} from '../ports/stream-log.js';
import { findRepeated, SLACK_MS } from './logged-repeats.js';
import { PgStreamPeers } from './pg-stream-peers.js';
import { packBatch, packEvent, unpackBatch, unpackEvent } from './stream-log-body.js';

const RETRY_MS = 1_000;
const PRUNE_EVERY_MS = 60_000;
/** What is still to be written when the service stops has this long. */
const STOP_WITHIN_MS = 1_000;
/** A page has no more rows, and bytes, than that; but one row in any case. */
const PAGE_ROWS = 1_000;
const PAGE_BYTES = 65_536;
/** Payloads in a row: whoever goes on in the middle of one reads it once more. But one message in any case. */
const ROW_BYTES = 262_144;
/** Behind every number. */
const END = Number.MAX_SAFE_INTEGER;

interface RowRecord {
  readonly at: number;
  readonly place: string;
  readonly other: string;
  readonly body: Buffer;
}

const APPEND = `INSERT INTO stream_log (epoch, place, other, body) VALUES ($1, $2, 0, $3) ON CONFLICT DO NOTHING`;

const NOTE = `
  INSERT INTO stream_log (epoch, place, other, body)
  SELECT $1, place, other, body FROM unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS new (place, other, body)
  ON CONFLICT DO NOTHING`;

// The size of a body is known without fetching it. A row is known by its last message: what was told up to the middle of
// one is in the first that ends there or later.
const READ = `
  SELECT place, other, extract(epoch FROM at)::float8 * 1000 AS at, body FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY place, other) - octet_length(body) AS before FROM (
      SELECT place, other, at, body FROM stream_log
      WHERE epoch = $1 AND (place, other) > ($2::bigint, $3::bigint) AND other <= $5 AND (other = 0 OR other > $6)
        AND place <= coalesce((
          SELECT place FROM stream_log WHERE epoch = $1 AND other = 0 AND place >= $4 ORDER BY place LIMIT 1
        ), $4)
      ORDER BY place, other LIMIT ${PAGE_ROWS}
    ) AS candidates
  ) AS measured WHERE before < ${PAGE_BYTES} ORDER BY place, other`;

// What is gone is remembered in the same statement: nobody is to find a hole and take it for silence.
const PRUNE = `
  WITH gone AS (
    DELETE FROM stream_log WHERE at < now() - $1 * INTERVAL '1 millisecond' RETURNING epoch, place, other
  ), last AS (
    SELECT epoch, coalesce(max(place) FILTER (WHERE other = 0), 0) AS place, max(other) AS other FROM gone GROUP BY epoch
  )
  UPDATE stream_epochs SET pruned_place = greatest(pruned_place, place), pruned_other = greatest(pruned_other, other)
  FROM last WHERE last.epoch = stream_epochs.epoch`;

const RUNS = `
  SELECT epoch, extract(epoch FROM started_at)::float8 * 1000 AS begun, pruned_place, pruned_other FROM stream_epochs
  WHERE epoch = ANY ($1) OR epoch BETWEEN $2 AND $3 ORDER BY epoch`;

const IS_PRUNED = `SELECT FROM stream_epochs WHERE epoch = $1 AND (pruned_place > $2 OR pruned_other > $3)`;

interface RunRecord {
  readonly epoch: number;
  readonly begun: number;
  readonly pruned_place: string;
  readonly pruned_other: string;
}

interface Waiting {
  readonly events: readonly NotedEvent[];
  readonly done: () => void;
  readonly failed: (error: Error) => void;
}

/** The table `stream_log`, and what of it is deleted in `stream_epochs`. */
@Injectable()
export class PgStreamLog extends StreamLog implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('StreamLog');
  private readonly stopping = new AbortController();
  private pruning: NodeJS.Timeout | undefined;
  private waiting: Waiting[] = [];
  private writing: Promise<void> = Promise.resolve();

  constructor(
    private readonly database: Database,
    private readonly config: Config,
    private readonly peers: PgStreamPeers,
  ) {
    super();
  }

  get opened(): Promise<void> {
    return this.peers.joined;
  }

  get epoch(): number {
    return this.peers.epoch;
  }

  onApplicationBootstrap(): void {
    void this.database.start().then(() => this.prune());
    this.pruning = setInterval(() => void this.prune(), PRUNE_EVERY_MS);
    this.pruning.unref();
  }

  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.pruning);
    await Promise.race([this.settled(), sleep(STOP_WITHIN_MS, undefined, { ref: false })]);
    this.stopping.abort();
  }

  async append(
    transaction: Transaction,
    epoch: number,
    range: Range,
    entries: readonly LogEntry[],
  ): Promise<void> {
    const client = clientOf(transaction);
    await this.peers.share(client, epoch);
    for (const { first, last, lot } of lotsOf(range, entries)) {
      await client.query({
        name: 'stream-log-append',
        text: APPEND,
        values: [epoch, last, packBatch(first, lot)],
      });
    }
  }

  async repeated(
    transaction: Transaction,
    redelivered: readonly LogEntry[],
    others: { readonly entries: readonly LogEntry[]; readonly since: Date },
  ): Promise<ReadonlyMap<LogEntry, Stand>> {
    const { peers } = this;
    // What a run has left that died in the middle of two transactions is not all to be relied on.
    if (redelivered.length > 0) await peers.look([], true).catch(() => undefined);
    const isAlone = peers.aloneSince.getTime() < others.since.getTime() - SLACK_MS;
    const shared = isAlone ? { ...others, entries: [] } : others;
    const { inflight } = this.config.mqtt;
    return findRepeated(clientOf(transaction), this.epoch, inflight, redelivered, shared);
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

  async stretches(after: StreamPosition, until: StreamPosition): Promise<readonly Stretch[]> {
    const seen = after.parts;
    const told = until.parts;
    const newestSeen = Math.max(...seen.keys());
    const bounds = [[...seen.keys()], newestSeen + 1, Math.max(...told.keys())];
    const runs = await this.database.query<RunRecord>(RUNS, bounds);
    const known = new Set(runs.map(({ epoch }) => epoch));
    for (const [epoch, part] of seen) {
      const own = epoch === until.epoch ? told.get(epoch) : undefined;
      if (!known.has(epoch) || (own && !own.covers(part))) throw new SinceUnknown();
    }
    return runs.map(({ epoch, begun, pruned_place, pruned_other }) => {
      const from = seen.get(epoch) ?? StreamPosition.startOf(epoch);
      if (Number(pruned_place) > from.place || Number(pruned_other) > from.other) throw new SinceTooOld();
      return { after: from, until: told.get(epoch) ?? null, begunAt: begun };
    });
  }

  async read(
    { until, isWhole = false }: Stretch,
    after: StreamPosition,
    from: LogRow | null,
  ): Promise<readonly LogRow[]> {
    const { epoch, place, other } = after;
    // The row that holds its message may hold more of it.
    const key = from ?? { place, other: isWhole ? 0 : -1 };
    const bounds = [until?.place ?? END, until?.other ?? END, other];
    const records = await this.database.query<RowRecord>(READ, [epoch, key.place, key.other, ...bounds]);
    // Not before: what has gone meanwhile would be missing.
    if ((await this.database.query(IS_PRUNED, [epoch, place, other])).length > 0) throw new SinceTooOld();
    return records.map(({ place, other, at, body }) => ({
      epoch,
      at,
      place: Number(place),
      other: Number(other),
      entries: () =>
        other === '0' ? unpackBatch(body) : [{ place: Number(place), event: unpackEvent(body) }],
    }));
  }

  private async write(): Promise<void> {
    await Promise.race([this.opened, aborted(this.stopping.signal)]);
    const lot = this.waiting.splice(0);
    const events = lot.flatMap((waiting) => waiting.events);
    const columns = [
      events.map(({ place }) => place),
      events.map(({ other }) => other),
      events.map(({ event }) => packEvent(event)),
    ];
    await this.persist(() =>
      this.database.ingest.lend(async (client) => {
        // Where a run was taken for dead, its next one has it.
        const { epoch } = this;
        await this.peers.share(client, epoch);
        await client.query(NOTE, [epoch, ...columns]);
        for (const { done } of lot) done();
      }),
    );
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

/** What a batch is written in: lots that follow on each other. */
function* lotsOf(
  { first, last }: Range,
  entries: readonly LogEntry[],
): Generator<Range & { readonly lot: readonly LogEntry[] }> {
  let begin = 0;
  let begun = first;
  let bytes = 0;
  for (const [index, entry] of entries.entries()) {
    const size = 'payload' in entry ? entry.payload.length : 0;
    const before = entries[index - 1];
    if (before && bytes + size > ROW_BYTES) {
      yield { first: begun, last: before.place, lot: entries.slice(begin, index) };
      begin = index;
      begun = before.place + 1;
      bytes = 0;
    }
    bytes += size;
  }
  yield { first: begun, last, lot: begin === 0 ? entries : entries.slice(begin) };
}

function aborted(signal: AbortSignal): Promise<null> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(null), { once: true }));
}
