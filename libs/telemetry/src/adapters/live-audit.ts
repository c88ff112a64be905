import type { AuditEntry, AuditTrail, Principal } from '#kernel';
import type { StreamFilter } from '../domain/stream-filter.js';

/** So many devices and patients of one subscription have an entry each, by which they are found. */
const MAX_NAMED = 100;

/** Writes down what one connection does: who opened the stream, whom it was refused, whose data was subscribed to. */
export class LiveAudit {
  /**
   * @param replayMs how far back a replay may reach.
   * @param source the address it comes from.
   * @param requestId the handshake's.
   */
  constructor(
    private readonly trail: AuditTrail,
    private readonly replayMs: number,
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
   * Someone wants to see certain devices and patients: an entry for each; or one, which says how many there are, or that
   * it is all that the token may see. What is told again may be a former patient's of a device. What stands there stays for ever, so it must not be for whoever asks to fill it.
   * @param replays whether what was missed is told again.
   * @throws DomainError unavailable/audit_unavailable
   */
  async subscribed(
    principal: Principal,
    { deviceIds, patientIds }: StreamFilter,
    replays: boolean,
  ): Promise<void> {
    const all = this.entry('subscribeStream', principal);
    const [devices, patients] = [deviceIds?.size ?? 0, patientIds?.size ?? 0];
    if (devices + patients > MAX_NAMED) {
      await this.trail.record([{ ...all, detail: `${devices} devices, ${patients} patients` }]);
      return;
    }
    const from = new Date(all.at.getTime() - this.replayMs).toISOString();
    const shown = replays && principal.patientId === null ? { shown: { from, to: null } } : {};
    const each = [
      ...[...(deviceIds ?? [])].map((deviceId) => ({ ...all, ...shown, deviceId, patientId: null })),
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
