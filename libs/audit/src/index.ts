export { verifyAuditLog } from './adapters/verify-audit-log.js';
export { AuditModule } from './audit.module.js';
