import { Injectable } from '@nestjs/common';
import { type EntityManager, LessThan } from 'typeorm';
import { Database, storableText } from '#platform';
import { MAX_IN_FLIGHT, type Command, type CommandStatus, type Step } from '../domain/command.js';
import {
  CLAIM_LEASE_MS,
  CommandRepository,
  type Change,
  type NewCommand,
  type News,
  type Selection,
} from '../ports/command.repository.js';
import { COMMAND_COLUMNS, CommandRow, toCommand } from './command.row.js';

/** Commands ended in one transaction, at most. */
const LOT = 1_000;
/** Letters of `created_by`: subjects of tokens may have more, and what can't be stored. */
const MAX_CREATED_BY = 255;
const LEASE = `INTERVAL '${CLAIM_LEASE_MS} milliseconds'`;
/** Advisory locks of this class are devices' queues. */
const QUEUE_LOCK = 0x636d_6473; // "cmds"
/** In nobody's hands. */
const FREE = '(c.claimed_until IS NULL OR c.claimed_until < now())';

/** When others may tell of what is kept now: telling takes as long as the broker does. */
const TELL_WITHIN = '10 seconds';
const TELL_AFTER = `now() + INTERVAL '${TELL_WITHIN}'`;
/** What has not been told of after that, is told by whoever has something to tell that follows it. */
const LATE_AFTER = '5 seconds';

const INSERT = `
  SELECT entered_id AS id, taken_until AS "claimedUntil", news_id AS news FROM command_enter(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, INTERVAL '${CLAIM_LEASE_MS} milliseconds', ${MAX_IN_FLIGHT},
    INTERVAL '${TELL_WITHIN}', $12)`;

const FIND = `SELECT ${COMMAND_COLUMNS} FROM device_commands c WHERE command_id = $2 AND device_id = $1`;
const EARLIER = `
  SELECT ${COMMAND_COLUMNS}, c.request_digest AS digest FROM device_commands c
  WHERE device_id = $1 AND created_by = $2 AND idempotency_key = $3`;

// Whoever locks the oldest queued command has the device's queue: another's lock on it, or claim, leaves the device out.
// A claim takes from the front, so the oldest one being free says that nobody has any.
//
// BETWEEN, where = would do, and arrays of ids, where a join would: the planner knows nothing of a queue that has just
// been filled, and would walk the primary key in search of a device's oldest command, or the whole ledger to join a few.
const QUEUE_OF = (device: string, patientSince: string): string => `
  SELECT id FROM device_commands
  WHERE device_id BETWEEN ${device} AND ${device} AND status = 'queued' AND expires_at > $3
    AND device_commands.patient_since IS NOT DISTINCT FROM ${patientSince} ORDER BY device_id, id`;
const PATIENT_SINCE = '(SELECT patient_since FROM medical_devices WHERE device_id = queues.device_id)';
// A claim is no promise to anybody: nobody waits until it is on disk. Lost with the database, it lapses a little early.
const CLAIM = `
  WITH unhurried AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
  ), heads AS MATERIALIZED (
    SELECT head.id FROM unhurried CROSS JOIN medical_devices d
      CROSS JOIN LATERAL (${QUEUE_OF('d.device_id', 'd.patient_since')} LIMIT 1) head
    WHERE d.device_id = ANY ($2::text[]) AND d.status = 'online' AND d.decommissioned_at IS NULL
  ), queues AS MATERIALIZED (
    SELECT c.device_id FROM device_commands c
    WHERE c.id = ANY (ARRAY(SELECT id FROM heads)) AND c.status = 'queued' AND ${FREE}
    FOR UPDATE SKIP LOCKED
  ), chosen AS MATERIALIZED (
    SELECT next.id FROM queues CROSS JOIN LATERAL (${QUEUE_OF('queues.device_id', PATIENT_SINCE)}
      LIMIT greatest(0, ${MAX_IN_FLIGHT} - (
        SELECT count(*) FROM device_commands WHERE device_id = queues.device_id AND status = 'sent'
      ))
    ) next
  ), claimed AS (
    UPDATE device_commands c SET claimed_by = $1, claimed_until = now() + ${LEASE}, attempts = attempts + 1
    WHERE c.id = ANY (ARRAY(SELECT id FROM chosen)) AND c.status = 'queued' AND ${FREE}
    RETURNING ${COMMAND_COLUMNS}
  )
  SELECT * FROM claimed ORDER BY id`;

const QUEUED_AMONG = `
  SELECT command_id FROM device_commands WHERE command_id = ANY ($1::uuid[]) AND status = 'queued'`;
// What has lapsed stays so: it may have been taken for free by whoever cancels it, or for the front of its queue.
const RENEW = `
  WITH renewed AS (
    UPDATE device_commands SET claimed_until = now() + ${LEASE}
    WHERE claimed_by = ANY ($1::uuid[]) AND status = 'queued' AND claimed_until >= clock_timestamp()
    RETURNING command_id
  )
  SELECT command_id FROM renewed`;
const RELEASE = `
  UPDATE device_commands SET claimed_by = NULL, claimed_until = NULL WHERE claimed_by = $1 AND status = 'queued'`;
const PUT_BACK = `
  UPDATE device_commands SET claimed_by = NULL, claimed_until = NULL, attempts = attempts - 1
  WHERE command_id = ANY ($2::uuid[]) AND claimed_by = $1 AND status = 'queued'`;

const TO_SERVE = `
  SELECT DISTINCT c.device_id FROM device_commands c JOIN medical_devices d USING (device_id)
  WHERE c.status = 'queued' AND c.expires_at > $1 AND ${FREE} AND d.status = 'online'`;

// What has been entered is kept as news in the same statement, in the order of the statuses.
const storeWhere = (condition: string): string => `
  WITH stored AS (
    UPDATE device_commands c
    SET status = n.status, sent_at = n.sent_at, acknowledged_at = n.acknowledged_at, completed_at = n.completed_at,
        result = n.result, error = n.error, late_response = n.late_response, claimed_until = n.claimed_until,
        claimed_by = CASE WHEN n.claimed_until IS NULL THEN NULL ELSE c.claimed_by END
    FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::jsonb[], $7::text[],
                $8::text[], $9::timestamptz[])
         AS n (id, status, sent_at, acknowledged_at, completed_at, result, error, late_response, claimed_until)
    WHERE c.id = n.id AND ${condition}
    RETURNING c.id, c.command_id
  ), kept AS (
    INSERT INTO command_news (command_id, status, at, tell_after)
    SELECT stored.command_id, entered.status, entered.at, ${TELL_AFTER}
    FROM unnest($10::bigint[], $11::text[], $12::timestamptz[]) WITH ORDINALITY AS entered (id, status, at, place)
      JOIN stored USING (id)
    ORDER BY place
    RETURNING id, command_id, status, at
  ), news AS (
    SELECT id, command_id, status, at FROM kept
    UNION ALL
    SELECT id, command_id, NULL, NULL FROM command_news WHERE command_id = ANY (ARRAY(SELECT command_id FROM stored))
  )
  SELECT stored.id, news.id AS news, news.status, news.at
  FROM stored LEFT JOIN news USING (command_id) ORDER BY news.id`;
const STORE = storeWhere('true');
const SETTLE = storeWhere(`c.status = 'queued' AND c.claimed_by = $13::uuid`);

// Of each command the news up to the first that is others' to tell. What somebody has locked, to tell of it or to note that
// it is told, counts as others'; nobody waits for it.
const claimNews = (commands: string, due: string): string => `
  WITH untold AS MATERIALIZED (
    SELECT id, command_id FROM command_news WHERE command_id = ANY (ARRAY(${commands}))
  ), locked AS MATERIALIZED (
    SELECT id, tell_after FROM command_news WHERE id = ANY (ARRAY(SELECT id FROM untold)) FOR UPDATE SKIP LOCKED
  ), free AS MATERIALIZED (
    SELECT untold.id, bool_and(coalesce(${due}, false) OR untold.id = ANY ($2::bigint[]))
      OVER (PARTITION BY untold.command_id ORDER BY untold.id) AS is_free
    FROM untold LEFT JOIN locked USING (id)
  ), mine AS (
    UPDATE command_news SET tell_after = ${TELL_AFTER}
    FROM free WHERE command_news.id = free.id AND is_free AND command_news.id <> ALL ($2::bigint[])
    RETURNING command_news.*
  )`;
const MINE = `
  SELECT mine.id AS claimed, mine.status AS entered, mine.at, ${COMMAND_COLUMNS}
  FROM mine JOIN device_commands c USING (command_id)`;
const CLAIM_UNTOLD = `
  ${claimNews(
    `SELECT command_id FROM command_news WHERE tell_after < now() AND id <> ALL ($2::bigint[]) ORDER BY id LIMIT $1`,
    'locked.tell_after < now()',
  )} ${MINE} ORDER BY mine.id`;
const CLAIM_HELD = `
  ${claimNews(
    'SELECT command_id FROM command_news WHERE id = ANY ($1::bigint[])',
    `(locked.id = ANY ($1::bigint[]) OR locked.tell_after < ${TELL_AFTER} - INTERVAL '${LATE_AFTER}')`,
  )}
  SELECT told.*, free.id AS news, is_free AS "isFree" FROM free LEFT JOIN (${MINE}) told ON told.claimed = free.id
  WHERE told.claimed IS NOT NULL OR (NOT is_free AND free.id = ANY ($1::bigint[]))
  ORDER BY free.id`;
const UNTOLD_AMONG = `SELECT id FROM command_news WHERE id = ANY ($1::bigint[])`;
// Remembered after the database has died, they are told again: nobody waits until that is on disk.
const MARK_TOLD = `
  WITH unhurried AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
  DELETE FROM command_news USING unhurried WHERE id = ANY ($1::bigint[])`;

/** What nobody has done anything about. */
const UNTOUCHED = {
  status: 'queued',
  sentAt: null,
  acknowledgedAt: null,
  completedAt: null,
  result: null,
  error: null,
  lateResponse: null,
} as const;

/** BIGINT arrives as text. */
interface EnteredRow {
  readonly id: string;
  readonly claimedUntil: Date | null;
  readonly news: string;
}

/** One for each of its news, those from before without a status; or one without any. */
type StoredRow = { readonly id: string } & (
  | { readonly news: string; readonly status: CommandStatus; readonly at: Date }
  | { readonly news: string | null; readonly status: null; readonly at: null }
);

type UntoldRow = CommandRow & {
  readonly claimed: string;
  readonly entered: CommandStatus;
  readonly at: Date;
};
type HeldRow = { readonly news: string } & (
  (UntoldRow & { readonly isFree: true }) | { readonly isFree: false }
);

/** The ledger in `device_commands`, and what is to be told of it in `command_news`. */
@Injectable()
export class TypeormCommandRepository extends CommandRepository {
  constructor(private readonly database: Database) {
    super();
  }

  async insert(
    command: NewCommand,
    claim: string | null,
  ): Promise<{ change: Change; earlier: string | null }> {
    const { idempotency, ...given } = command;
    const order = { ...given, createdBy: storableText(given.createdBy, MAX_CREATED_BY) };
    const { deviceId, createdBy, createdAt: at } = order;
    const [inserted] = await this.database.run<EnteredRow>({
      name: 'command-enter',
      text: INSERT,
      values: [
        QUEUE_LOCK,
        order.commandId,
        deviceId,
        order.command,
        JSON.stringify(order.parameters),
        createdBy,
        at,
        order.expiresAt,
        idempotency?.key ?? null,
        idempotency?.digest ?? null,
        claim,
        order.patientSince,
      ],
    });
    if (inserted) {
      const { id, claimedUntil, news } = inserted;
      const taken = { id: Number(id), attempts: claimedUntil ? 1 : 0, claimedUntil };
      return {
        change: {
          command: { ...UNTOUCHED, ...order, ...taken },
          news: [{ id: Number(news), status: 'queued', at }],
          earlier: [],
        },
        earlier: null,
      };
    }
    const [row] = await this.database.query<CommandRow & { digest: string }>(EARLIER, [
      deviceId,
      createdBy,
      idempotency?.key,
    ]);
    if (!row) throw new Error('a command that was in the way is gone');
    const { digest, ...earlier } = row;
    return { change: { command: toCommand(earlier), news: [], earlier: [] }, earlier: digest };
  }

  async find(deviceId: string, commandId: string): Promise<Command | null> {
    const [row] = await this.database.query<CommandRow>(FIND, [deviceId, commandId]);
    return row ? toCommand(row) : null;
  }

  async list(
    { deviceId, since }: { readonly deviceId: string; readonly since: Date | null },
    beforeId: number | null,
    limit: number,
  ): Promise<readonly Command[]> {
    const rows = await this.database.repository(CommandRow).find({
      where: {
        deviceId,
        ...(beforeId !== null && { id: LessThan(String(beforeId)) }),
        ...(since !== null && { patientSince: since }),
      },
      order: { id: 'DESC' },
      take: limit,
    });
    return rows.map(toCommand);
  }

  async change(selection: Selection, change: (command: Command) => Step | null): Promise<readonly Change[]> {
    return this.database.repository(CommandRow).manager.transaction(async (manager) => {
      const steps = (await select(manager, selection))
        .map((row) => change(toCommand(row)))
        .filter((step) => step !== null);
      if (steps.length === 0) return [];
      return changesOf(steps, await manager.query<StoredRow[]>(STORE, columnsOf(steps)));
    });
  }

  async claim(claim: string, deviceIds: readonly string[], now: Date): Promise<readonly Command[]> {
    const rows = await this.database.query<CommandRow>(CLAIM, [claim, deviceIds, now]);
    return rows.map(toCommand);
  }

  async settle(claim: string, steps: readonly Step[]): Promise<readonly Change[]> {
    const rows = await this.database.run<StoredRow>({ text: SETTLE, values: [...columnsOf(steps), claim] });
    return changesOf(steps, rows);
  }

  async queuedAmong(commandIds: readonly string[]): Promise<readonly string[]> {
    const rows = await this.database.query<{ command_id: string }>(QUEUED_AMONG, [commandIds]);
    return rows.map((row) => row.command_id);
  }

  async renew(claims: readonly string[]): Promise<readonly string[]> {
    const rows = await this.database.query<{ command_id: string }>(RENEW, [claims]);
    return rows.map((row) => row.command_id);
  }

  async putBack(claim: string, commandIds: readonly string[]): Promise<void> {
    await this.database.query(PUT_BACK, [claim, commandIds]);
  }

  async release(claim: string): Promise<void> {
    await this.database.query(RELEASE, [claim]);
  }

  async claimUntold(limit: number, inHand: readonly number[]): Promise<readonly Change[]> {
    return (await this.database.query<UntoldRow>(CLAIM_UNTOLD, [limit, inHand])).map(untold);
  }

  async claimHeld(
    held: readonly number[],
    inHand: readonly number[],
  ): Promise<{ readonly changes: readonly Change[]; readonly waiting: readonly number[] }> {
    const rows = await this.database.query<HeldRow>(CLAIM_HELD, [held, inHand]);
    return {
      changes: rows.flatMap((row) => (row.isFree ? untold(row) : [])),
      waiting: rows.flatMap(({ news, isFree }) => (isFree ? [] : Number(news))),
    };
  }

  async untoldAmong(news: readonly number[]): Promise<readonly number[]> {
    const rows = await this.database.query<{ id: string }>(UNTOLD_AMONG, [news]);
    return rows.map(({ id }) => Number(id));
  }

  async markTold(news: readonly number[]): Promise<void> {
    await this.database.run({ text: MARK_TOLD, values: [news] });
  }

  async devicesToServe(now: Date): Promise<readonly string[]> {
    const rows = await this.database.query<{ device_id: string }>(TO_SERVE, [now]);
    return rows.map((row) => row.device_id);
  }
}

/** In the order of their ids: locked in one order everywhere, no two transactions wait for each other. */
async function select(manager: EntityManager, selection: Selection): Promise<readonly CommandRow[]> {
  const from = `SELECT ${COMMAND_COLUMNS} FROM device_commands c WHERE`;
  if (selection === 'undeliverable') {
    return manager.query(
      `${from} c.status = 'queued' AND ${FREE} AND EXISTS (
         SELECT FROM medical_devices d WHERE d.device_id = c.device_id
           AND (d.decommissioned_at IS NOT NULL OR d.patient_since IS DISTINCT FROM c.patient_since))
       ORDER BY id LIMIT ${LOT} FOR UPDATE SKIP LOCKED`,
    );
  }
  if ('overAt' in selection) {
    return manager.query(
      `${from} c.status IN ('queued', 'sent', 'acknowledged') AND c.expires_at <= $1
       ORDER BY id LIMIT ${LOT} FOR UPDATE SKIP LOCKED`,
      [selection.overAt],
    );
  }
  return manager.query(`${from} c.command_id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE`, [
    selection.commandIds,
  ]);
}

/** The parameters of {@link storeWhere}. */
function columnsOf(steps: readonly Step[]): unknown[] {
  const column = <T>(of: (command: Command) => T): T[] => steps.map(({ command }) => of(command));
  const entered = steps.flatMap(({ command, entered: all }) =>
    all.map((each) => ({ id: command.id, ...each })),
  );
  return [
    column(({ id }) => id),
    column(({ status }) => status),
    column(({ sentAt }) => sentAt),
    column(({ acknowledgedAt }) => acknowledgedAt),
    column(({ completedAt }) => completedAt),
    column(({ result }) => (result === null ? null : JSON.stringify(result))),
    column(({ error }) => error),
    column(({ lateResponse }) => lateResponse),
    column(({ claimedUntil }) => claimedUntil),
    entered.map(({ id }) => id),
    entered.map(({ status }) => status),
    entered.map(({ at }) => at),
  ];
}

function untold({ claimed, entered, at, ...row }: UntoldRow): Change {
  return { command: toCommand(row), news: [{ id: Number(claimed), status: entered, at }], earlier: [] };
}

/** Those of the steps that were stored. */
function changesOf(steps: readonly Step[], rows: readonly StoredRow[]): readonly Change[] {
  const stored = new Map<number, { news: News[]; earlier: number[] }>();
  for (const { id, news, status, at } of rows) {
    const of = stored.get(Number(id)) ?? { news: [], earlier: [] };
    if (status !== null) of.news.push({ id: Number(news), status, at });
    else if (news !== null) of.earlier.push(Number(news));
    stored.set(Number(id), of);
  }
  return steps.flatMap(({ command }) => {
    const of = stored.get(command.id);
    return of ? [{ command, ...of }] : [];
  });
}
