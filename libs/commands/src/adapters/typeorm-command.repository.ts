import { Injectable } from '@nestjs/common';
import { type EntityManager, LessThan, MoreThanOrEqual } from 'typeorm';
import { Database } from '#platform';
import { MAX_IN_FLIGHT, type Command, type Step } from '../domain/command.js';
import {
  CLAIM_LEASE_MS,
  CommandRepository,
  type NewCommand,
  type Selection,
} from '../ports/command.repository.js';
import { COMMAND_COLUMNS, CommandRow, toCommand } from './command.row.js';

/** Commands ended in one transaction, at most. */
const LOT = 1_000;
const LEASE = `INTERVAL '${CLAIM_LEASE_MS} milliseconds'`;
/** Advisory locks of this class are devices' queues. */
const QUEUE_LOCK = 0x636d_6473; // "cmds"
/** In nobody's hands. */
const FREE = '(c.claimed_until IS NULL OR c.claimed_until < now())';

// Ids are given out in the order in which commands of a device become visible: otherwise one could be sent before another
// of a smaller id, which is still being committed.
const INSERT = `
  WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(${QUEUE_LOCK}, hashtext($2::text)))
  INSERT INTO device_commands AS c
    (command_id, device_id, command, parameters, status, created_by, created_at, expires_at, idempotency_key, request_digest)
  SELECT $1::uuid, $2::text, $3::text, $4::jsonb, 'queued', $5::text, $6::timestamptz, $7::timestamptz, $8::text, $9::text
  FROM turn
  ON CONFLICT (device_id, created_by, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
  RETURNING ${COMMAND_COLUMNS}`;

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
    AND created_at >= coalesce(${patientSince}, '-infinity') ORDER BY device_id, id`;
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

const RENEW = `
  UPDATE device_commands SET claimed_until = now() + ${LEASE} WHERE claimed_by = ANY ($1::uuid[]) AND status = 'queued'`;
const RELEASE = `
  UPDATE device_commands SET claimed_by = NULL, claimed_until = NULL WHERE claimed_by = $1 AND status = 'queued'`;

const TO_SERVE = `
  SELECT DISTINCT c.device_id FROM device_commands c JOIN medical_devices d USING (device_id)
  WHERE c.status = 'queued' AND c.expires_at > $1 AND ${FREE} AND d.status = 'online'`;

const STORE = `
  UPDATE device_commands c
  SET status = n.status, sent_at = n.sent_at, acknowledged_at = n.acknowledged_at, completed_at = n.completed_at,
      result = n.result, error = n.error, late_response = n.late_response, claimed_until = n.claimed_until,
      claimed_by = CASE WHEN n.claimed_until IS NULL THEN NULL ELSE c.claimed_by END
  FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::jsonb[], $7::text[],
              $8::text[], $9::timestamptz[])
       AS n (id, status, sent_at, acknowledged_at, completed_at, result, error, late_response, claimed_until)
  WHERE c.id = n.id`;
const SETTLE = `
  WITH stored AS (${STORE} AND c.status = 'queued' AND c.claimed_by = $10::uuid RETURNING c.command_id)
  SELECT command_id FROM stored`;

/** The ledger in `device_commands`. */
@Injectable()
export class TypeormCommandRepository extends CommandRepository {
  constructor(private readonly database: Database) {
    super();
  }

  async insert(command: NewCommand): Promise<{ command: Command; earlier: string | null }> {
    const { deviceId, createdBy, idempotency } = command;
    const [inserted] = await this.database.query<CommandRow>(INSERT, [
      command.commandId,
      deviceId,
      command.command,
      JSON.stringify(command.parameters),
      createdBy,
      command.createdAt,
      command.expiresAt,
      idempotency?.key ?? null,
      idempotency?.digest ?? null,
    ]);
    if (inserted) return { command: toCommand(inserted), earlier: null };
    const [row] = await this.database.query<CommandRow & { digest: string }>(EARLIER, [
      deviceId,
      createdBy,
      idempotency?.key,
    ]);
    if (!row) throw new Error('a command that was in the way is gone');
    const { digest, ...earlier } = row;
    return { command: toCommand(earlier), earlier: digest };
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
        ...(since !== null && { createdAt: MoreThanOrEqual(since) }),
      },
      order: { id: 'DESC' },
      take: limit,
    });
    return rows.map(toCommand);
  }

  async change(selection: Selection, change: (command: Command) => Step | null): Promise<readonly Step[]> {
    return this.database.repository(CommandRow).manager.transaction(async (manager) => {
      const steps = (await select(manager, selection))
        .map((row) => change(toCommand(row)))
        .filter((step) => step !== null);
      if (steps.length > 0) {
        await manager.query(STORE, columnsOf(steps.map(({ command }) => command)));
      }
      return steps;
    });
  }

  async claim(claim: string, deviceIds: readonly string[], now: Date): Promise<readonly Command[]> {
    const rows = await this.database.query<CommandRow>(CLAIM, [claim, deviceIds, now]);
    return rows.map(toCommand);
  }

  async settle(claim: string, steps: readonly Step[]): Promise<readonly string[]> {
    const columns = columnsOf(steps.map(({ command }) => command));
    const rows = await this.database.query<{ command_id: string }>(SETTLE, [...columns, claim]);
    return rows.map((row) => row.command_id);
  }

  async renew(claims: readonly string[]): Promise<void> {
    await this.database.query(RENEW, [claims]);
  }

  async release(claim: string): Promise<void> {
    await this.database.query(RELEASE, [claim]);
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
           AND (d.decommissioned_at IS NOT NULL OR d.patient_since > c.created_at))
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

/** Parameters of STORE. */
function columnsOf(commands: readonly Command[]): unknown[] {
  const column = <T>(of: (command: Command) => T): T[] => commands.map(of);
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
  ];
}
