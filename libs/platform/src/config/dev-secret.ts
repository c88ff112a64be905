import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from './config.js';

/**
 * The HS256 secret: `JWT_SECRET`, or in development one that is made once and kept, readable by its owner only,
 * in `DATA_DIR`, so that `npm run token` and a service started from the same folder agree.
 */
export function jwtSecret(config: Config): string {
  if (config.auth.secret !== undefined) return config.auth.secret;
  const path = join(config.dataDir, 'jwt-secret');
  try {
    mkdirSync(config.dataDir, { recursive: true });
    writeFileSync(path, randomBytes(32).toString('base64url'), { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return readFileSync(path, 'utf8').trim();
}
