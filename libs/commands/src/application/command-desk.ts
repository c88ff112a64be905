import { Injectable } from '@nestjs/common';
import { Clock, DomainError, EventBus, type Principal } from '#kernel';
import { DeviceRegistry, requireInService } from '#devices';
import { cancelled, commandEvent, type Command } from '../domain/command.js';
import { CommandRepository } from '../ports/command.repository.js';
import { CommandDispatcher } from './command-dispatcher.js';

/** What someone wants a device to do. */
export interface CommandOrder {
  readonly deviceId: string;
  readonly command: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Milliseconds it has to be completed. */
  readonly expiresIn: number;
}

/** Takes orders for devices and answers for what became of them. */
@Injectable()
export class CommandDesk {
  constructor(
    private readonly registry: DeviceRegistry,
    private readonly commands: CommandRepository,
    private readonly dispatcher: CommandDispatcher,
    private readonly bus: EventBus,
    private readonly clock: Clock,
  ) {}

  /**
   * Enters the order into the ledger, and sends it at once where device and broker are there.
   * @returns the command as the ledger then shows it.
   * @throws DomainError not_found/device_not_found, conflict/device_decommissioned
   */
  async order(order: CommandOrder, caller: Principal): Promise<Command> {
    const device = await this.registry.get(order.deviceId, caller);
    requireInService(device);
    const now = this.clock.now();
    const command = await this.commands.insert({
      commandId: crypto.randomUUID(),
      deviceId: order.deviceId,
      command: order.command,
      parameters: order.parameters,
      createdBy: caller.subject,
      createdAt: now,
      expiresAt: new Date(now.getTime() + order.expiresIn),
    });
    this.bus.announce([commandEvent(command, device, now)]);
    if (device.presence.status === 'online') await this.dispatcher.serve(order.deviceId);
    return (await this.commands.find(order.deviceId, command.commandId)) ?? command;
  }

  /** @throws DomainError not_found/device_not_found or not_found/command_not_found */
  async get(deviceId: string, commandId: string, caller: Principal): Promise<Command> {
    await this.registry.get(deviceId, caller);
    return (await this.commands.find(deviceId, commandId)) ?? commandNotFound(commandId);
  }

  /** A page of a device's commands, newest first. @throws DomainError not_found/device_not_found */
  async list(
    deviceId: string,
    beforeId: number | null,
    limit: number,
    caller: Principal,
  ): Promise<readonly Command[]> {
    await this.registry.get(deviceId, caller);
    return this.commands.list(deviceId, beforeId, limit);
  }

  /** @throws DomainError not_found/..., conflict/command_not_cancellable */
  async cancel(deviceId: string, commandId: string, caller: Principal): Promise<Command> {
    const device = await this.registry.get(deviceId, caller);
    const command =
      (await this.commands.update(deviceId, commandId, cancelled)) ?? commandNotFound(commandId);
    this.bus.announce([commandEvent(command, device, this.clock.now())]);
    return command;
  }
}

function commandNotFound(commandId: string): never {
  throw new DomainError('not_found', 'command_not_found', `The device has no command ${commandId}.`);
}
