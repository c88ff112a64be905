import type { ClientBase } from 'pg';
import type { LogEntry, LoggedMessage, MessageEntry, Stand } from '../ports/stream-log.js';
import { unpackBatch } from './stream-log-body.js';

/** Runs of the service that may have been given a message before. */
const MOST_RUNS = 16;
const MOST_BYTES = 16 * 1_024 * 1_024;
/** The machines' clocks may be apart. */
const SLACK_MS = 5_000;

interface RowRecord {
  readonly epoch: number;
  readonly body: Buffer;
}

// What a run had not acknowledged when it ended is among its last, since acknowledgements go out in their order.
const LAST_OF_EACH = `
  SELECT last.epoch, body FROM (
    SELECT epoch, (SELECT max(place) FROM stream_log WHERE stream_log.epoch = stream_epochs.epoch AND other = 0) AS place
    FROM stream_epochs ORDER BY epoch DESC LIMIT ${MOST_RUNS}
  ) AS last JOIN stream_log ON stream_log.epoch = last.epoch AND other = 0 AND stream_log.place > last.place - $1
  ORDER BY last.epoch, stream_log.place`;

const SINCE = `
  SELECT epoch, body FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY at DESC, place DESC) AS bytes FROM stream_log
    WHERE other = 0 AND at > $1 AND epoch <> $2
      AND epoch IN (SELECT stream_epochs.epoch FROM stream_epochs WHERE NOT ended)
  ) AS newest WHERE bytes < ${MOST_BYTES}`;

/**
 * Finds messages in the log that are about to be written there once more: delivered again, or given to two replicas.
 * @param inflight how many messages a broker sends before the first is acknowledged.
 */
export async function findRepeated(
  client: ClientBase,
  epoch: number,
  inflight: number,
  redelivered: readonly LogEntry[],
  others: { readonly entries: readonly LogEntry[]; readonly since: Date },
): Promise<ReadonlyMap<LogEntry, Stand>> {
  const found = new Map<LogEntry, Stand>();
  if (redelivered.length > 0) {
    // A batch may lie across the border, and new messages among those that come again.
    const { rows } = await client.query<RowRecord>(LAST_OF_EACH, [2 * inflight]);
    new Sought(redelivered).findIn(rows, found);
  }
  if (others.entries.length > 0) {
    const since = new Date(others.since.getTime() - SLACK_MS);
    const { rows } = await client.query<RowRecord>(SINCE, [since, epoch]);
    new Sought(others.entries).findIn(rows, found);
  }
  return found;
}

/** Messages that are looked for. Their names are digests; to compare their bytes is cheaper. */
class Sought {
  private readonly byTopic = new Map<string, MessageEntry[]>();
  /** Of those that were rejected there is only the event. */
  private readonly byEvent = new Map<string, LogEntry>();

  constructor(entries: readonly LogEntry[]) {
    for (const entry of entries) {
      if ('event' in entry) {
        this.byEvent.set(entry.event.id, entry);
        continue;
      }
      const alike = this.byTopic.get(entry.topic);
      if (alike) alike.push(entry);
      else this.byTopic.set(entry.topic, [entry]);
    }
  }

  findIn(rows: readonly RowRecord[], found: Map<LogEntry, Stand>): void {
    for (const { epoch, body } of rows) {
      for (const logged of unpackBatch(body)) {
        const { place } = logged;
        const sought = 'event' in logged ? this.byEvent.get(logged.event.id) : undefined;
        if (sought) found.set(sought, { epoch, place });
        if ('event' in logged) continue;
        for (const entry of this.byTopic.get(logged.topic) ?? [])
          if (isSame(entry, logged)) found.set(entry, { epoch, place });
      }
    }
  }
}

/** They would have the same name. */
function isSame(entry: MessageEntry, logged: LoggedMessage): boolean {
  if (entry.dated !== logged.dated) return false;
  if (!entry.dated && entry.receivedAt.toISOString() !== logged.receivedAt.toISOString()) return false;
  return Buffer.compare(entry.payload, logged.payload) === 0;
}
