import type { AuditEntry, AuditTrail, Principal } from '#kernel';
import type { StreamFilter } from '../domain/stream-filter.js';

/** Writes down what one connection does: who opened the stream, whom it was refused, whose data was subscribed to. */
export class LiveAudit {
  /**
   * @param source the address it comes from.
   * @param requestId the handshake's.
   */
  constructor(
    private readonly trail: AuditTrail,
    private readonly source: string | null,
    private readonly requestId: string,
  ) {}

  /** Someone sees, from now on, all that the token may. @throws DomainError unavailable/audit_unavailable */
  async opened(principal: Principal): Promise<void> {
    await this.trail.record([this.entry('openStream', principal)]);
  }

  /** Somebody was sent away. */
  denied(principal: Principal | null, why: string): void {
    this.trail.note({ ...this.entry('openStream', principal), outcome: 'denied', detail: why });
  }

  /**
   * Someone wants to see certain devices and patients: an entry for each; or one, for all that the token may see.
   * @throws DomainError unavailable/audit_unavailable
   */
  async subscribed(principal: Principal, { deviceIds, patientIds }: StreamFilter): Promise<void> {
    const all = this.entry('subscribeStream', principal);
    const each = [
      ...[...(deviceIds ?? [])].map((deviceId) => ({ ...all, deviceId, patientId: null })),
      ...[...(patientIds ?? [])].map((patientId) => ({ ...all, patientId })),
    ];
    await this.trail.record(each.length > 0 ? each : [all]);
  }

  private entry(action: string, principal: Principal | null): AuditEntry {
    return {
      at: new Date(),
      actor: principal,
      action,
      patientId: principal?.patientId ?? null,
      deviceId: null,
      target: null,
      source: this.source,
      outcome: 'done',
      detail: null,
      requestId: this.requestId,
    };
  }
}
