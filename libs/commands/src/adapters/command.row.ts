import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import type { Command, CommandStatus } from '../domain/command.js';

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
}

export function toCommand(row: CommandRow): Command {
  return { ...row, id: Number(row.id), result: row.result ?? null };
}
