import { Injectable } from '@nestjs/common';
import { DomainError, EventBus, type DomainEvent, type Principal, type Transaction } from '#kernel';
import { DeviceRegistry, isDeviceId, requireActive, type DeviceIdentity } from '#devices';
import { ReadingRepository } from '#readings';
import {
  RejectedMessageRepository,
  type HeldMessage,
  type QuarantinePage,
  type QuarantinePosition,
  type RejectionFilter,
} from '../ports/rejected-message.repository.js';
import { DataReceived } from './data-received.js';
import { decodeBounded } from './decode-bounded.js';
import { isDated } from './decode.js';
import { requireDatable } from './ingest.js';

/** What a message turned out to hold when it was tried again. */
export interface Retried {
  readonly deviceId: string;
  /** How many readings it gave, those that were there already included. */
  readonly readings: number;
  readonly events: readonly DomainEvent[];
}

/** Where people look at rejected messages, and try them again once a device is registered or a rule has changed. */
@Injectable()
export class QuarantineDesk {
  constructor(
    private readonly messages: RejectedMessageRepository,
    private readonly registry: DeviceRegistry,
    private readonly readings: ReadingRepository,
    private readonly bus: EventBus,
  ) {}

  /**
   * A page of rejected messages, newest first.
   * @throws DomainError forbidden/insufficient_scope
   */
  async page(
    filter: Omit<RejectionFilter, 'tenant'>,
    after: QuarantinePosition | null,
    limit: number,
    caller: Principal,
  ): Promise<QuarantinePage> {
    requireUnconfined(caller);
    return this.messages.page({ ...filter, tenant: caller.tenant }, after, limit);
  }

  /**
   * Decodes a message again, by the registry and the catalogue as they are now, as if it came in now with the date
   * it came in first. It is stored and leaves the quarantine, or stays with the reason it is rejected for now.
   * @throws DomainError not_found/rejected_message_not_found, conflict/not_retryable for a message that is no
   * measurement, conflict/still_rejected, or forbidden/insufficient_scope
   */
  async retry(id: number, caller: Principal): Promise<Retried> {
    requireUnconfined(caller);
    const message = await this.messages.find(id, caller.tenant);
    const sender = message && (await this.senderOf(message));
    const release =
      message && (await this.messages.release(id, (transaction) => this.store(transaction, message, sender)));
    if (!release) {
      throw new DomainError('not_found', 'rejected_message_not_found', `No rejected message ${id} is kept.`);
    }
    if ('rejection' in release) {
      const { reason, message } = release.rejection;
      throw new DomainError('conflict', 'still_rejected', `Rejected again: ${reason}. ${message}`, [], {
        reason,
      });
    }
    this.bus.announce(release.stored.events);
    return release.stored;
  }

  /**
   * The registered device a message is of; null where its topic names none.
   * @throws DomainError conflict/not_retryable
   */
  private async senderOf({ deviceId }: HeldMessage): Promise<DeviceIdentity | null> {
    if (deviceId === null) {
      throw new DomainError(
        'conflict',
        'not_retryable',
        'Only measurements can be tried again: what a status or a response told of has passed.',
      );
    }
    const known = await this.registry.identify([deviceId].filter(isDeviceId));
    return known.get(deviceId) ?? null;
  }

  private async store(
    transaction: Transaction,
    message: HeldMessage,
    device: DeviceIdentity | null,
  ): Promise<Retried> {
    const { receivedAt } = message;
    const payload = message.parse();
    requireDatable(payload, message.retained);
    const sender = requireActive(device ?? undefined);
    const measurements = decodeBounded(payload, message.bytes, sender, receivedAt);
    const readings = measurements.flatMap((measurement) => measurement.readings);
    const waveforms = measurements.flatMap(({ waveform }) => waveform ?? []);
    await this.readings.insertReadings(transaction, readings);
    await this.readings.insertWaveforms(transaction, waveforms);
    const undatedSince = isDated(payload) ? null : receivedAt;
    const events = measurements.map(
      (measurement, index) =>
        new DataReceived(() => message.id(undatedSince), index, sender, measurement, receivedAt, null, true),
    );
    return { deviceId: sender.deviceId, readings: readings.length, events };
  }
}

/** Whose a rejected message is nobody has checked: a token confined to one patient sees none. */
function requireUnconfined(caller: Principal): void {
  if (caller.patientId !== null) {
    throw new DomainError(
      'forbidden',
      'insufficient_scope',
      'A token confined to one patient has no access to rejected messages.',
    );
  }
}
