import { Injectable } from '@nestjs/common';
import { DomainError, type Principal } from '#kernel';
import { AuditLog, type AuditFilter, type AuditRecord } from '../ports/audit-log.js';

/** Where administrators look at the audit log of their tenant. */
@Injectable()
export class AuditDesk {
  constructor(private readonly log: AuditLog) {}

  /** A page, newest first. @throws DomainError forbidden/insufficient_scope */
  async page(
    filter: AuditFilter,
    before: number | null,
    limit: number,
    caller: Principal,
  ): Promise<readonly AuditRecord[]> {
    if (caller.patientId !== null) {
      throw new DomainError(
        'forbidden',
        'insufficient_scope',
        'A token confined to one patient has no access to the audit log.',
      );
    }
    return this.log.page(filter, caller.tenant, before, limit);
  }
}
