import { randomBytes } from 'node:crypto';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ConfigError, type Config } from './config.js';

/**
 * Makes `DATA_DIR` where it is missing, folder by folder: the recursive mkdir of Node 20 never returns on
 * file systems that refuse with ENOENT, such as /proc.
 * @throws ConfigError naming DATA_DIR
 */
export function makeDataDir(config: Config): void {
  try {
    makeFolder(config.dataDir);
    accessSync(config.dataDir, constants.W_OK | constants.X_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ConfigError([
      `DATA_DIR: ${config.dataDir} is no folder that can be written to (${code ?? 'unknown error'})`,
    ]);
  }
}

function makeFolder(path: string): void {
  if (existsSync(path)) {
    if (!statSync(path).isDirectory()) throw Object.assign(new Error('not a folder'), { code: 'ENOTDIR' });
    return;
  }
  makeFolder(dirname(path));
  mkdirSync(path);
}

/**
 * The HS256 secret: `JWT_SECRET`, or in development one that is made once and kept, readable by its owner only,
 * in `DATA_DIR`, so that `npm run token` and a service started from the same folder agree.
 */
export function jwtSecret(config: Config): string {
  if (config.auth.secret !== undefined) return config.auth.secret;
  const path = join(config.dataDir, 'jwt-secret');
  try {
    makeDataDir(config);
    writeFileSync(path, randomBytes(32).toString('base64url'), { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return readFileSync(path, 'utf8').trim();
}
