import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { Clock, DomainError, type Principal } from '#kernel';
import { DeviceRegistry, requireInService, shownSince } from '#devices';
import { cancelled, isFor, type Command } from '../domain/command.js';
import { CommandRules } from '../domain/command-catalogue.js';
import { CommandRepository, type Idempotency } from '../ports/command.repository.js';
import { CommandDispatcher } from './command-dispatcher.js';
import { CommandHerald } from './command-herald.js';

/** What someone wants a device to do. */
export interface CommandOrder {
  readonly deviceId: string;
  readonly command: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Milliseconds it has to be completed. */
  readonly expiresIn: number;
  /** The caller's own name for the order; null: ordered again, it is another one. */
  readonly idempotencyKey: string | null;
}

/** How long an answer waits for the broker: it may have fallen silent. */
const ANSWER_WITHIN_MS = 5_000;

/** Takes orders for devices and answers for what became of them. */
@Injectable()
export class CommandDesk {
  constructor(
    private readonly registry: DeviceRegistry,
    private readonly commands: CommandRepository,
    private readonly dispatcher: CommandDispatcher,
    private readonly rules: CommandRules,
    private readonly herald: CommandHerald,
    private readonly clock: Clock,
  ) {}

  /**
   * Enters the order into the ledger, and sends it at once where device and broker are there. The same order under the same
   * idempotency key is entered once.
   * @returns the command as the ledger then shows it.
   * @throws DomainError not_found/device_not_found, conflict/device_decommissioned, invalid/validation_failed,
   * unprocessable/idempotency_key_without_subject, unprocessable/idempotency_key_reused
   */
  async order(order: CommandOrder, caller: Principal): Promise<Command> {
    const { deviceId, idempotencyKey } = order;
    // Keys are each caller's own, and without a subject nobody knows which are whose.
    if (idempotencyKey !== null && !caller.isNamed) {
      throw new DomainError(
        'unprocessable',
        'idempotency_key_without_subject',
        'An Idempotency-Key needs a token that names its subject (sub).',
      );
    }
    const device = await this.registry.identity(deviceId, caller);
    requireInService(device);
    this.rules.check(device.type, order.command, order.parameters);
    const now = this.clock.now();
    const idempotency: Idempotency | null =
      idempotencyKey === null ? null : { key: idempotencyKey, digest: digestOf(order) };
    const entered = await this.dispatcher.enter(
      {
        commandId: crypto.randomUUID(),
        deviceId,
        command: order.command,
        parameters: order.parameters,
        createdBy: caller.subject,
        patientSince: device.patientSince,
        createdAt: now,
        expiresAt: new Date(now.getTime() + order.expiresIn),
        idempotency,
      },
      new Map([[deviceId, device]]),
    );
    const { command, earlier } = entered;
    // Another patient's is another order, and not for whoever is confined to this one to see.
    const isTheirs = isShown(command, shownSince(device, caller));
    if (earlier !== null && (earlier !== idempotency?.digest || !isTheirs)) {
      throw new DomainError(
        'unprocessable',
        'idempotency_key_reused',
        'This Idempotency-Key was used for another order.',
      );
    }
    const waited = new AbortController();
    const late = sleep(ANSWER_WITHIN_MS, null, { signal: waited.signal }).catch(() => null);
    const served = await Promise.race([entered.served, late]);
    waited.abort();
    return served ?? (await this.commands.find(deviceId, command.commandId)) ?? command;
  }

  /** @throws DomainError not_found/device_not_found or not_found/command_not_found */
  async get(deviceId: string, commandId: string, caller: Principal): Promise<Command> {
    const since = shownSince(await this.registry.get(deviceId, caller), caller);
    const command = await this.commands.find(deviceId, commandId);
    return command && isShown(command, since) ? command : commandNotFound(commandId);
  }

  /**
   * A page of a device's commands, newest first. Whoever is confined to a patient sees none of before the device was that
   * patient's.
   * @throws DomainError not_found/device_not_found
   */
  async list(
    deviceId: string,
    beforeId: number | null,
    limit: number,
    caller: Principal,
  ): Promise<readonly Command[]> {
    const since = shownSince(await this.registry.get(deviceId, caller), caller);
    return this.commands.list({ deviceId, since }, beforeId, limit);
  }

  /** @throws DomainError not_found/..., conflict/command_not_cancellable */
  async cancel(deviceId: string, commandId: string, caller: Principal): Promise<Command> {
    const device = await this.registry.get(deviceId, caller);
    const since = shownSince(device, caller);
    const now = this.clock.now();
    const [change] = await this.commands.change({ commandIds: [commandId] }, (command) =>
      command.deviceId === deviceId && isShown(command, since) ? cancelled(command, now) : null,
    );
    if (!change) return commandNotFound(commandId);
    this.herald.announce([change], new Map([[deviceId, device]]));
    return change.command;
  }
}

function isShown(command: Command, since: Date | null): boolean {
  return since === null || isFor(command, since);
}

function commandNotFound(commandId: string): never {
  throw new DomainError('not_found', 'command_not_found', `The device has no command ${commandId}.`);
}

/** The same for the same order, in whatever order its parameters stand. */
function digestOf({ command, parameters, expiresIn }: CommandOrder): string {
  return createHash('sha256')
    .update(JSON.stringify(sorted({ command, parameters, expiresIn })))
    .digest('hex');
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([name, child]) => [name, sorted(child)]));
}
