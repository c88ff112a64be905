import { Global, Module, type DynamicModule } from '@nestjs/common';
import { APP_GUARD, APP_INTERCEPTOR } from '@nestjs/core';
import { AuditTrail } from '#kernel';
import { AuditController } from './adapters/audit.controller.js';
import { AuditGuard, AuditInterceptor } from './adapters/audited-request.js';
import { PgAuditLog } from './adapters/pg-audit-log.js';
import { AuditDesk } from './application/audit-desk.js';
import { AuditWriter } from './application/audit-writer.js';
import { AuditLog } from './ports/audit-log.js';

/** The audit log, and what writes every request down. It is imported first: its guard stands before the others. */
@Global()
@Module({})
export class AuditModule {
  static with(): DynamicModule {
    return {
      module: AuditModule,
      controllers: [AuditController],
      providers: [
        { provide: AuditLog, useClass: PgAuditLog },
        { provide: AuditTrail, useClass: AuditWriter },
        { provide: APP_GUARD, useClass: AuditGuard },
        { provide: APP_INTERCEPTOR, useClass: AuditInterceptor },
        AuditDesk,
      ],
      exports: [AuditTrail],
    };
  }
}
