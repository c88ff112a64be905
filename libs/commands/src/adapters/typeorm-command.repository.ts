import { Injectable } from '@nestjs/common';
import { LessThan, MoreThan, type EntityManager } from 'typeorm';
import { Database } from '#platform';
import type { Command } from '../domain/command.js';
import { CommandRepository, type NewCommand } from '../ports/command.repository.js';
import { CommandRow, toCommand } from './command.row.js';

/** The ledger in `device_commands`. */
@Injectable()
export class TypeormCommandRepository extends CommandRepository {
  constructor(private readonly database: Database) {
    super();
  }

  async insert(command: NewCommand): Promise<Command> {
    const repository = this.database.repository(CommandRow);
    const row = repository.create({ ...command, parameters: { ...command.parameters }, status: 'queued' });
    return toCommand(await repository.save(row));
  }

  async find(deviceId: string, commandId: string): Promise<Command | null> {
    const row = await this.database.repository(CommandRow).findOneBy({ deviceId, commandId });
    return row && toCommand(row);
  }

  async deviceOf(commandId: string): Promise<string | null> {
    const row = await this.database.repository(CommandRow).findOneBy({ commandId });
    return row?.deviceId ?? null;
  }

  async list(deviceId: string, beforeId: number | null, limit: number): Promise<readonly Command[]> {
    const rows = await this.database.repository(CommandRow).find({
      where: { deviceId, ...(beforeId !== null && { id: LessThan(String(beforeId)) }) },
      order: { id: 'DESC' },
      take: limit,
    });
    return rows.map(toCommand);
  }

  async update(
    deviceId: string,
    commandId: string,
    change: (command: Command) => Command,
  ): Promise<Command | null> {
    return this.database.repository(CommandRow).manager.transaction(async (manager) => {
      const row = await manager.findOne(CommandRow, {
        where: { deviceId, commandId },
        lock: { mode: 'pessimistic_write' },
      });
      if (!row) return null;
      const changed = change(toCommand(row));
      await store(manager, changed);
      return changed;
    });
  }

  async sendNext(
    deviceId: string,
    now: Date,
    send: (command: Command) => Promise<Command>,
  ): Promise<Command | null> {
    return this.database.repository(CommandRow).manager.transaction(async (manager) => {
      const row = await manager.findOne(CommandRow, {
        where: { deviceId, status: 'queued', expiresAt: MoreThan(now) },
        order: { id: 'ASC' },
        lock: { mode: 'pessimistic_write', onLocked: 'skip_locked' },
      });
      if (!row) return null;
      const command = await send(toCommand(row));
      await store(manager, command);
      return command;
    });
  }

  async devicesToServe(now: Date): Promise<readonly string[]> {
    const rows = await this.database.query<{ device_id: string }>(
      `SELECT DISTINCT device_id FROM device_commands JOIN medical_devices d USING (device_id)
       WHERE device_commands.status = 'queued' AND expires_at > $1 AND d.status = 'online'`,
      [now],
    );
    return rows.map((row) => row.device_id);
  }

  async cancelUndeliverable(): Promise<readonly Command[]> {
    return this.database.repository(CommandRow).manager.transaction(async (manager) => {
      const rows = await manager
        .createQueryBuilder(CommandRow, 'command')
        .where(
          `command.status = 'queued' AND EXISTS (SELECT FROM medical_devices d
           WHERE d.device_id = command.device_id AND d.decommissioned_at IS NOT NULL)`,
        )
        .orderBy('command.id')
        .setLock('pessimistic_write')
        .setOnLocked('skip_locked')
        .getMany();
      for (const row of rows) await manager.update(CommandRow, { id: row.id }, { status: 'cancelled' });
      return rows.map((row) => toCommand({ ...row, status: 'cancelled' }));
    });
  }

  async expire(now: Date): Promise<readonly Command[]> {
    return this.database.repository(CommandRow).manager.transaction(async (manager) => {
      const rows = await manager
        .createQueryBuilder(CommandRow, 'command')
        .where(`status IN ('queued', 'sent', 'acknowledged') AND expires_at <= :now`, { now })
        .orderBy('id')
        .setLock('pessimistic_write')
        .setOnLocked('skip_locked')
        .getMany();
      for (const row of rows) await manager.update(CommandRow, { id: row.id }, { status: 'expired' });
      return rows.map((row) => toCommand({ ...row, status: 'expired' }));
    });
  }
}

async function store(manager: EntityManager, command: Command): Promise<void> {
  const { status, sentAt, acknowledgedAt, completedAt, result, error, attempts } = command;
  await manager.query(
    `UPDATE device_commands SET status = $2, sent_at = $3, acknowledged_at = $4, completed_at = $5,
            result = $6, error = $7, attempts = $8 WHERE id = $1`,
    [
      command.id,
      status,
      sentAt,
      acknowledgedAt,
      completedAt,
      result === null ? null : JSON.stringify(result),
      error,
      attempts,
    ],
  );
}
