import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable, Logger } from '@nestjs/common';
import { Clock } from '#kernel';
import { Config, Database, errorCode, MqttTransport } from '#platform';

/** Of several replicas, the one that has this advisory lock deletes a lot. */
const RETENTION_LOCK = 0x6d71_7368; // "mqsh"
const EVERY_MS = 3_600_000;
const RETRY_MS = 60_000;
/** Changes looked at in one transaction. */
const LOT = 5_000;

// Ids are given in the order of the changes, so the primary key leads to the old ones, and the index on (device, id) to what
// came after. What has not been told of yet is still needed. Of two clocks the earlier one counts: one that is ahead must
// not delete what is not old.
const DELETE_LOT = `
  WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(${RETENTION_LOCK}) AS mine,
      least(now(), $2::timestamptz) - make_interval(secs => $3) AS cutoff
  ), lot AS MATERIALIZED (
    SELECT id, device_id, at < (SELECT cutoff FROM turn) AS old, tell_after FROM device_status_changes
    WHERE id > $1 AND (SELECT mine FROM turn) ORDER BY id LIMIT $4
  ), gone AS (
    DELETE FROM device_status_changes change USING lot
    WHERE change.id = lot.id AND lot.old AND lot.tell_after IS NULL AND EXISTS (
      SELECT FROM device_status_changes newer WHERE newer.device_id = lot.device_id AND newer.id > lot.id
    )
    RETURNING change.id
  )
  SELECT turn.mine, (SELECT max(id) FROM lot) AS last, (SELECT bool_or(old) FROM lot) AS old,
    (SELECT count(*) FROM gone) AS deleted
  FROM turn`;

interface LotRecord {
  /** False: another replica is at it. */
  readonly mine: boolean;
  /** The last id of the lot; null: it is empty. */
  readonly last: string | null;
  /** Some of it is old. */
  readonly old: boolean | null;
  readonly deleted: string;
}

/**
 * Deletes changes of devices' presence that are older than STATUS_HISTORY_RETENTION, in lots, and never the last change of
 * a device, which says how it is now. It never stops the service: what fails is tried again.
 */
@Injectable()
export class StatusHistoryRetention {
  private readonly logger = new Logger('StatusHistory');
  private readonly stopping = new AbortController();

  constructor(
    private readonly database: Database,
    private readonly config: Config,
    private readonly clock: Clock,
    transport: MqttTransport,
  ) {
    transport.onDrain(() => {
      this.stopping.abort();
      return Promise.resolve();
    });
  }

  /** Begins as soon as the schema is up, and goes on until the service stops. */
  start(): void {
    const { statusHistoryRetention: retention } = this.config;
    if (retention !== undefined) void this.database.start().then(() => this.run(retention));
  }

  private async run(retention: number): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      const pause = await this.expire(retention).catch((error: unknown) => {
        this.logger.warn(`Not expired (${errorCode(error) ?? String(error)}); trying again`);
        return RETRY_MS;
      });
      await sleep(pause, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  /** @returns how long to wait until the next time, in milliseconds. */
  private async expire(retention: number): Promise<number> {
    let after = '0';
    let deleted = 0;
    let lot: LotRecord | undefined;
    do {
      [lot] = await this.database.query<LotRecord>(DELETE_LOT, [
        after,
        this.clock.now().toISOString(),
        retention / 1_000,
        LOT,
      ]);
      deleted += Number(lot?.deleted);
      after = lot?.last ?? after;
    } while (lot?.old && !this.stopping.signal.aborted);
    if (deleted > 0)
      this.logger.log(`${deleted} changes of presence deleted: older than STATUS_HISTORY_RETENTION`);
    return lot?.mine ? EVERY_MS : RETRY_MS;
  }
}
