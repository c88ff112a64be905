import type { ClientBase } from 'pg';
import type { EventEntry, LogEntry, LoggedMessage, MessageEntry, Stand } from '../ports/stream-log.js';
import { unpackBatch } from './stream-log-body.js';

/** Runs of the service that may have been given a message before. */
const MOST_RUNS = 16;
const MOST_BYTES = 16 * 1_024 * 1_024;
/** The machines' clocks may be apart. */
export const SLACK_MS = 5_000;

/** Runs may die while they are relied on; hardly so many. */
const ATTEMPTS = 5;

interface RowRecord {
  readonly epoch: number;
  /** Nothing is deleted of its end any more. */
  readonly ended: boolean;
  readonly body: Buffer;
}

// What a run had not acknowledged when it ended is among its last, since acknowledgements go out in their order.
const LAST_OF_EACH = `
  SELECT last.epoch, ended, body FROM (
    SELECT epoch, ended, (SELECT max(place) FROM stream_log WHERE stream_log.epoch = stream_epochs.epoch AND other = 0) AS place
    FROM stream_epochs ORDER BY epoch DESC LIMIT ${MOST_RUNS}
  ) AS last JOIN stream_log ON stream_log.epoch = last.epoch AND other = 0 AND stream_log.place > last.place - $1
  ORDER BY last.epoch, stream_log.place`;

// Of runs that are over as well: the other replica may have stored it and died, and this one was another run before.
const SINCE = `
  SELECT epoch, (SELECT ended FROM stream_epochs WHERE stream_epochs.epoch = newest.epoch) AS ended, body FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY at DESC, place DESC) AS bytes FROM stream_log
    WHERE other = 0 AND at > $1 AND epoch <> $2
  ) AS newest WHERE bytes < ${MOST_BYTES}`;

// Whoever finds it dead does so before or after, and not in between.
const KEEP = `
  UPDATE stream_epochs SET kept_place = greatest(kept_place, $2) WHERE epoch = $1 AND NOT ended`;

/**
 * Finds messages in the log that are about to be written there once more: delivered again, or given to two replicas. What
 * is found stays in the log.
 * @param epoch this run.
 * @param inflight how many messages a broker sends before the first is acknowledged.
 */
export async function findRepeated(
  client: ClientBase,
  epoch: number,
  inflight: number,
  redelivered: readonly LogEntry[],
  others: { readonly entries: readonly LogEntry[]; readonly since: Date },
): Promise<ReadonlyMap<LogEntry, Stand>> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    const found = new Map<LogEntry, Stand>();
    const alive = new Map<number, number>();
    if (redelivered.length > 0) {
      // A batch may lie across the border, and new messages among those that come again.
      const { rows } = await client.query<RowRecord>(LAST_OF_EACH, [2 * inflight]);
      new Sought(redelivered).findIn(rows, found, alive);
    }
    if (others.entries.length > 0) {
      const since = new Date(others.since.getTime() - SLACK_MS);
      const { rows } = await client.query<RowRecord>(SINCE, [since, epoch]);
      new Sought(others.entries).findIn(rows, found, alive);
    }
    alive.delete(epoch);
    if (await kept(client, alive)) return found;
  }
  throw new Error('the other replicas die too fast');
}

/** @param places the last that is relied on, by run. @returns false when one has died meanwhile. */
async function kept(client: ClientBase, places: ReadonlyMap<number, number>): Promise<boolean> {
  for (const [epoch, place] of [...places].sort(([one], [another]) => one - another))
    if ((await client.query(KEEP, [epoch, place])).rowCount !== 1) return false;
  return true;
}

/** Messages that are looked for. Their names are digests; their bytes are cheaper to compare. */
class Sought {
  /** By topic, and by what makes a name besides. */
  private readonly byTopic = new Map<string, Map<string, LogEntry[]>>();
  /** Of those that were rejected there is only the event. */
  private readonly byEvent = new Map<string, LogEntry>();

  constructor(entries: readonly LogEntry[]) {
    for (const entry of entries) {
      if ('event' in entry) {
        this.byEvent.set(entry.event.id, entry);
        continue;
      }
      let ofTopic = this.byTopic.get(entry.topic);
      if (!ofTopic) this.byTopic.set(entry.topic, (ofTopic = new Map<string, LogEntry[]>()));
      const key = keyOf(entry);
      const alike = ofTopic.get(key);
      if (alike) alike.push(entry);
      else ofTopic.set(key, [entry]);
    }
  }

  /** @param alive takes the last place that was found, by run, of those that live. */
  findIn(rows: readonly RowRecord[], found: Map<LogEntry, Stand>, alive: Map<number, number>): void {
    for (const { epoch, ended, body } of rows) {
      for (const logged of unpackBatch(body)) {
        const { place } = logged;
        for (const entry of this.alike(logged)) {
          found.set(entry, { epoch, place });
          if (!ended) alive.set(epoch, Math.max(place, alive.get(epoch) ?? 0));
        }
      }
    }
  }

  private alike(logged: LoggedMessage | EventEntry): readonly LogEntry[] {
    if (!('event' in logged)) return this.byTopic.get(logged.topic)?.get(keyOf(logged)) ?? [];
    const sought = this.byEvent.get(logged.event.id);
    return sought ? [sought] : [];
  }
}

/** The same for messages of one topic that have the same name. */
function keyOf({ payload, dated, receivedAt }: MessageEntry): string {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString('latin1');
  return dated ? bytes : `${receivedAt.toISOString()} ${bytes}`;
}
