import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import type { Command, CommandStatus, ResponseStatus } from '../domain/command.js';

/** A row of `device_commands`. */
@Entity('device_commands')
export class CommandRow {
  /** BIGINT arrives as text. */
  @PrimaryGeneratedColumn({ type: 'bigint' })
  id!: string;

  @Column({ name: 'command_id', type: 'uuid' })
  commandId!: string;

  @Column({ name: 'device_id', type: 'varchar' })
  deviceId!: string;

  @Column({ type: 'varchar' })
  command!: string;

  @Column({ type: 'jsonb' })
  parameters!: Record<string, unknown>;

  @Column({ type: 'varchar' })
  status!: CommandStatus;

  @Column({ name: 'created_by', type: 'varchar' })
  createdBy!: string;

  @Column({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @Column({ name: 'sent_at', type: 'timestamptz', nullable: true })
  sentAt!: Date | null;

  @Column({ name: 'acknowledged_at', type: 'timestamptz', nullable: true })
  acknowledgedAt!: Date | null;

  @Column({ name: 'completed_at', type: 'timestamptz', nullable: true })
  completedAt!: Date | null;

  @Column({ name: 'expires_at', type: 'timestamptz' })
  expiresAt!: Date;

  @Column({ type: 'jsonb', nullable: true })
  result!: unknown;

  @Column({ type: 'text', nullable: true })
  error!: string | null;

  @Column({ type: 'integer', default: 0 })
  attempts!: number;

  @Column({ name: 'late_response', type: 'varchar', nullable: true })
  lateResponse!: ResponseStatus | null;

  @Column({ name: 'claimed_until', type: 'timestamptz', nullable: true })
  claimedUntil!: Date | null;

  @Column({ name: 'patient_since', type: 'timestamptz', nullable: true })
  patientSince!: Date | null;
}

/**
 * The columns of {@link CommandRow} under its names, for statements of their own; the table goes by the name `c`. A claim that has
 * lapsed is none: the database says so, by whose clock it was made.
 */
export const COMMAND_COLUMNS = `c.id, c.command_id AS "commandId", c.device_id AS "deviceId", c.command, c.parameters,
  c.status, c.created_by AS "createdBy", c.created_at AS "createdAt", c.sent_at AS "sentAt",
  c.acknowledged_at AS "acknowledgedAt", c.completed_at AS "completedAt", c.expires_at AS "expiresAt", c.result, c.error,
  c.attempts, c.late_response AS "lateResponse", CASE WHEN c.claimed_until > clock_timestamp() THEN c.claimed_until END AS "claimedUntil",
  c.patient_since AS "patientSince"`;

export function toCommand(row: CommandRow): Command {
  return { ...row, id: Number(row.id), result: row.result ?? null };
}
