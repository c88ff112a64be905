import type { DomainEvent } from '#kernel';
import { cloudEventJson, errorCode, fits, reducedCloudEventJson, type Database } from '#platform';
import type { Delivery, DeliveryState, Failure, FinishedState } from '../domain/delivery.js';
import {
  DeliveryRepository,
  type ClaimedDelivery,
  type KeepingBounds,
  type NewDelivery,
  type Replay,
  type ReplaySelection,
} from '../ports/delivery.repository.js';

/** As over MQTT: no larger than what is taken in. */
const MAX_EVENT_BYTES = 262_144;
/** Of one statement: text, which is held in memory by both sides, and rows. */
const MAX_LOT_BYTES = 8_388_608;
const MAX_LOT_ROWS = 10_000;
/** Of one lane, deliveries claimed together. */
const LANE_DEPTH = 16;
/** What is larger is not claimed with its body: many wait for few to be sent. */
const MAX_CLAIMED_BYTES = 16_384;
/** Rows given up or removed in one statement. */
const LOT = 5_000;
const FOREIGN_KEY_VIOLATION = '23503';
/** Of the replicas, one sweeps at a time. */
const SWEEP_LOCK = 0x7768_6b73; // "whks"
/** The first halves of advisory locks' keys: of one webhook, claims follow one another, and so do replays. */
const CLAIM_TURN = 0x7768_636c; // "whcl"
const REPLAY_TURN = 0x7768_7270; // "whrp"

/** In nobody's hands. */
const FREE = '(d.claimed_until IS NULL OR d.claimed_until < now())';

// Ids are given out in the order of the rows, so that the queue's order is that of the events.
const ADD = `
  WITH events AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
      WITH ORDINALITY AS e (event_id, event_type, device_id, body, number)
  ), wanted AS (
    SELECT * FROM unnest($5::bigint[], $6::uuid[]) WITH ORDINALITY AS w (number, webhook_id, place)
  )
  INSERT INTO webhook_deliveries (webhook_id, lane, event_id, event_type, body)
  SELECT webhook_id, coalesce(device_id, ''), event_id, event_type, body
  FROM wanted JOIN events USING (number) JOIN webhooks USING (webhook_id)
  WHERE webhooks.active
  ORDER BY wanted.place
  ON CONFLICT (webhook_id, event_id) DO NOTHING`;

const CLAIM = `
  SELECT * FROM webhook_claim(${CLAIM_TURN}, $1, $2, $3, ${LANE_DEPTH}, $4 * INTERVAL '1 millisecond', ${MAX_CLAIMED_BYTES})`;

// Not beside a claim, which might have found them lapsed. What has lapsed stays so: others may have taken what is in front of it.
const RENEW = `
  WITH turns AS MATERIALIZED (
    SELECT pg_advisory_xact_lock_shared(${CLAIM_TURN}, turn)
    FROM (SELECT DISTINCT hashtext(webhook::text) AS turn FROM unnest($1::uuid[]) AS webhook ORDER BY turn) ordered
  ), renewed AS (
    UPDATE webhook_deliveries SET claimed_until = now() + $4 * INTERVAL '1 millisecond'
    WHERE (SELECT count(*) FROM turns) > 0 AND id = ANY ($3::bigint[]) AND claimed_by = ANY ($2::uuid[])
      AND state = 'pending' AND claimed_until >= clock_timestamp()
    RETURNING id
  )
  SELECT id FROM renewed`;

const BODY = `SELECT body FROM webhook_deliveries WHERE id = $1`;

const RELEASE = `
  UPDATE webhook_deliveries SET claimed_by = NULL, claimed_until = NULL
  WHERE claimed_by = $1 AND state = 'pending' AND id = ANY ($2::bigint[])`;

const FINISH = `
  WITH finished AS (
    UPDATE webhook_deliveries SET state = $3, attempts = attempts + 1, finished_at = now(), last_status = $4,
      last_failure = $5, claimed_by = NULL, claimed_until = NULL
    WHERE id = $2 AND claimed_by = $1 AND state = 'pending' RETURNING id
  )
  SELECT * FROM finished`;

// At once: whoever found the one free and the rest still held would take what comes behind them.
const POSTPONE = `
  UPDATE webhook_deliveries SET attempts = attempts + (id = $2)::int,
    next_attempt_at = CASE WHEN id = $2 THEN now() + $3 * INTERVAL '1 millisecond' ELSE next_attempt_at END,
    last_status = CASE WHEN id = $2 THEN $4 ELSE last_status END,
    last_failure = CASE WHEN id = $2 THEN $5 ELSE last_failure END,
    claimed_by = NULL, claimed_until = NULL
  WHERE claimed_by = $1 AND state = 'pending' AND id = ANY ($6::bigint[])`;

const BACKLOGS = `
  SELECT webhook_id, count(*) AS count FROM webhook_deliveries WHERE state = 'pending' GROUP BY webhook_id`;

// State by state: each is a walk along the index.
const LIST = `
  SELECT found.* FROM unnest($2::text[]) AS wanted (state) CROSS JOIN LATERAL (
    SELECT id, message_id, event_id, event_type, lane, state, attempts, created_at, next_attempt_at, finished_at,
      last_status, last_failure
    FROM webhook_deliveries d
    WHERE d.webhook_id = $1 AND d.state = wanted.state AND id < coalesce($3::bigint, 9223372036854775807)
    ORDER BY id DESC LIMIT $4
  ) found
  ORDER BY found.id DESC LIMIT $4`;

const ID_OF = `SELECT id FROM webhook_deliveries WHERE webhook_id = $1 AND message_id = $2`;

const REPLAY = `SELECT * FROM webhook_replay(${REPLAY_TURN}, $1, $2, $3, $4, $5, $6)`;

// What lies behind the newest so many is the same whoever looks: two replicas give no more up than one.
const BEHIND = (webhookId: string, state: string, keep: string): string => `
  (SELECT id FROM webhook_deliveries WHERE webhook_id = ${webhookId} AND state = ${state}
   ORDER BY id DESC OFFSET ${keep} LIMIT 1)`;
// Ids as an array, here and below: joined, the planner would walk a queue once for each of them.
const GIVE_UP_OLDEST = `
  WITH oldest AS MATERIALIZED (
    SELECT d.id FROM webhook_deliveries d
    WHERE d.webhook_id = $1 AND d.state = 'pending' AND ${FREE} AND d.id <= ${BEHIND('$1', "'pending'", '$2')}
    ORDER BY d.id LIMIT ${LOT}
  ), given_up AS (
    UPDATE webhook_deliveries d SET state = 'dead', finished_at = now(), last_failure = 'backlog_full'
    WHERE d.id = ANY (ARRAY(SELECT id FROM oldest)) AND d.state = 'pending' AND ${FREE} RETURNING d.id
  )
  SELECT count(*) AS count FROM given_up`;

const MINE = `SELECT pg_try_advisory_xact_lock(${SWEEP_LOCK}) AS is_mine`;
const GIVE_UP_OLD = `
  WITH turn AS MATERIALIZED (${MINE}), old AS MATERIALIZED (
    SELECT d.id FROM webhook_deliveries d
    WHERE (SELECT is_mine FROM turn) AND d.state = 'pending' AND ${FREE}
      AND d.queued_at < now() - $1 * INTERVAL '1 millisecond'
    LIMIT ${LOT}
  ), given_up AS (
    UPDATE webhook_deliveries d
    SET state = 'dead', finished_at = now(), last_failure = coalesce(d.last_failure, 'expired')
    WHERE d.id = ANY (ARRAY(SELECT id FROM old)) AND d.state = 'pending' AND ${FREE} RETURNING d.id
  )
  SELECT count(*) AS count FROM given_up`;
// The oldest of each webhook and state, and of these what was finished long ago, or is behind the newest so many.
const FORGET = `
  WITH turn AS MATERIALIZED (${MINE}), queues AS MATERIALIZED (
    SELECT w.webhook_id, s.state, coalesce(${BEHIND('w.webhook_id', 's.state', '$2')}, 0) AS behind
    FROM webhooks w CROSS JOIN (VALUES ('delivered'), ('dead')) AS s (state)
    WHERE (SELECT is_mine FROM turn)
  ), old AS MATERIALIZED (
    SELECT oldest.id FROM queues CROSS JOIN LATERAL (
      SELECT id, finished_at FROM webhook_deliveries WHERE webhook_id = queues.webhook_id AND state = queues.state
      ORDER BY id LIMIT ${LOT}
    ) oldest
    WHERE oldest.id <= queues.behind OR oldest.finished_at < now() - $1 * INTERVAL '1 millisecond'
    LIMIT ${LOT}
  ), forgotten AS (
    DELETE FROM webhook_deliveries WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING id
  )
  SELECT count(*) AS count FROM forgotten`;

interface ClaimRecord {
  readonly id: string;
  readonly message_id: string;
  readonly lane: string;
  readonly body: string | null;
  readonly attempts: number;
  readonly age_ms: number;
}

interface DeliveryRecord {
  readonly id: string;
  readonly message_id: string;
  readonly event_id: string;
  readonly event_type: string;
  readonly lane: string;
  readonly state: DeliveryState;
  readonly attempts: number;
  readonly created_at: Date;
  readonly next_attempt_at: Date;
  readonly finished_at: Date | null;
  readonly last_status: number | null;
  readonly last_failure: Failure | null;
}

/** The queues in `webhook_deliveries`. */
export class PgDeliveryRepository extends DeliveryRepository {
  /** @param leaseMs how long a claim holds. */
  constructor(
    private readonly database: Database,
    private readonly leaseMs: number,
  ) {
    super();
  }

  async add(deliveries: readonly NewDelivery[]): Promise<void> {
    for (const lot of lotsOf(deliveries)) {
      try {
        await this.insert(lot);
      } catch (error) {
        // A webhook was removed while its row was looked at; the next look does not find it.
        if (errorCode(error) !== FOREIGN_KEY_VIOLATION) throw error;
        await this.insert(lot);
      }
    }
  }

  async claim(claim: string, webhookId: string, lanes: number): Promise<readonly ClaimedDelivery[]> {
    const rows = await this.database.query<ClaimRecord>(CLAIM, [claim, webhookId, lanes, this.leaseMs]);
    return rows.map((row) => ({
      id: Number(row.id),
      messageId: messageIdOf(row.message_id),
      lane: row.lane,
      body: row.body,
      attempts: row.attempts,
      ageMs: row.age_ms,
    }));
  }

  async body(id: number): Promise<string> {
    const [row] = await this.database.query<{ body: string }>(BODY, [id]);
    if (!row) throw new Error('a delivery that was claimed is gone');
    return row.body;
  }

  async renew(
    webhookIds: readonly string[],
    claims: readonly string[],
    ids: readonly number[],
  ): Promise<readonly number[]> {
    const rows = await this.database.query<{ id: string }>(RENEW, [webhookIds, claims, ids, this.leaseMs]);
    return rows.map(({ id }) => Number(id));
  }

  async release(claim: string, ids: readonly number[]): Promise<void> {
    if (ids.length > 0) await this.database.query(RELEASE, [claim, ids]);
  }

  async finish(
    claim: string,
    id: number,
    state: FinishedState,
    status: number | null,
    failure: Failure | null,
  ): Promise<boolean> {
    return (await this.database.query(FINISH, [claim, id, state, status, failure])).length > 0;
  }

  async postpone(
    claim: string,
    id: number,
    behind: readonly number[],
    delayMs: number,
    status: number | null,
    failure: Failure,
  ): Promise<void> {
    await this.database.query(POSTPONE, [claim, id, delayMs, status, failure, [id, ...behind]]);
  }

  async backlogs(): Promise<ReadonlyMap<string, number>> {
    const rows = await this.database.query<{ webhook_id: string; count: string }>(BACKLOGS);
    return new Map(rows.map((row) => [row.webhook_id, Number(row.count)]));
  }

  async list(
    webhookId: string,
    states: readonly DeliveryState[],
    beforeId: number | null,
    limit: number,
  ): Promise<readonly Delivery[]> {
    const rows = await this.database.query<DeliveryRecord>(LIST, [webhookId, states, beforeId, limit]);
    return rows.map(toDelivery);
  }

  async idOf(webhookId: string, messageId: string): Promise<number | null> {
    const [row] = await this.database.query<{ id: string }>(ID_OF, [webhookId, uuidOf(messageId)]);
    return row ? Number(row.id) : null;
  }

  async replay(webhookId: string, selection: ReplaySelection, maxPending: number): Promise<Replay> {
    const { states, afterId, from, to } = selection;
    const [row] = await this.database.query<{
      queued: string;
      remaining: string;
      last_message_id: string | null;
    }>(REPLAY, [webhookId, states, afterId, from, to, maxPending]);
    const last = row?.last_message_id ?? null;
    return {
      queued: Number(row?.queued ?? 0),
      remaining: Number(row?.remaining ?? 0),
      lastMessageId: last && messageIdOf(last),
    };
  }

  async giveUpOldest(webhookId: string, keep: number): Promise<number> {
    return this.inLots(GIVE_UP_OLDEST, [webhookId, keep]);
  }

  async sweep({ maxAgeMs, retentionMs, maxKept }: KeepingBounds): Promise<number> {
    const givenUp = await this.inLots(GIVE_UP_OLD, [maxAgeMs]);
    await this.inLots(FORGET, [retentionMs, maxKept]);
    return givenUp;
  }

  private async inLots(sql: string, parameters: readonly unknown[]): Promise<number> {
    for (let sum = 0; ;) {
      const [row] = await this.database.query<{ count: string }>(sql, parameters);
      const count = Number(row?.count ?? 0);
      sum += count;
      if (count < LOT) return sum;
    }
  }

  /** On the ingest's connections: those of requests may all be taken. */
  private async insert(lot: readonly RenderedDelivery[]): Promise<void> {
    const pairs = lot.flatMap(({ webhookIds }, index) =>
      webhookIds.map((webhookId) => [index + 1, webhookId] as const),
    );
    await this.database.ingest.query({
      name: 'webhook-deliveries-add',
      text: ADD,
      values: [
        lot.map(({ event }) => event.id),
        lot.map(({ event }) => event.type),
        lot.map(({ event }) => event.deviceId),
        lot.map(({ body }) => body),
        pairs.map(([number]) => number),
        pairs.map(([, webhookId]) => webhookId),
      ],
    });
  }
}

interface RenderedDelivery extends NewDelivery {
  readonly body: string;
}

/** As a rule one lot; more for what would not fit into memory twice. */
function* lotsOf(deliveries: readonly NewDelivery[]): Generator<readonly RenderedDelivery[]> {
  let lot: RenderedDelivery[] = [];
  let bytes = 0;
  let rows = 0;
  for (const delivery of deliveries) {
    const body = bodyOf(delivery.event);
    lot.push({ ...delivery, body });
    bytes += body.length;
    rows += delivery.webhookIds.length;
    if (bytes < MAX_LOT_BYTES && rows < MAX_LOT_ROWS) continue;
    yield lot;
    lot = [];
    bytes = 0;
    rows = 0;
  }
  if (lot.length > 0) yield lot;
}

function bodyOf(event: DomainEvent): string {
  const whole = cloudEventJson(event);
  return fits(whole, MAX_EVENT_BYTES) ? whole : reducedCloudEventJson(event, MAX_EVENT_BYTES);
}

/** Standard Webhooks 1.0.0: a message's id holds no full stop, which separates it from what else is signed. */
function messageIdOf(uuid: string): string {
  return `msg_${uuid.replaceAll('-', '')}`;
}

function uuidOf(messageId: string): string {
  return messageId.slice('msg_'.length);
}

function toDelivery(row: DeliveryRecord): Delivery {
  return {
    id: Number(row.id),
    messageId: messageIdOf(row.message_id),
    eventId: row.event_id,
    eventType: row.event_type,
    deviceId: row.lane === '' ? null : row.lane,
    state: row.state,
    attempts: row.attempts,
    createdAt: row.created_at,
    nextAttemptAt: row.state === 'pending' ? row.next_attempt_at : null,
    finishedAt: row.finished_at,
    lastStatus: row.last_status,
    lastFailure: row.last_failure,
  };
}
