import { unwatchFile, watchFile } from 'node:fs';
import type { Server } from 'node:http';
import { Server as HttpsServer } from 'node:https';
import { Logger } from '@nestjs/common';
import { servedTls, type TlsFiles } from './tls-files.js';

/** A look at two files; a certificate is renewed days before the old one ends. */
const LOOK_EVERY_MS = 2_000;

/**
 * Has an HTTPS server show its new certificate once the files change; connections there are go on. Files that do not
 * belong together, as in the moment between the one and the other, change nothing.
 */
export function followCertificate(server: Server, files: TlsFiles): void {
  if (!(server instanceof HttpsServer)) return;
  const logger = new Logger('Https');
  const renew = (): void => {
    try {
      server.setSecureContext(servedTls(files));
      logger.log('TLS_CERT, TLS_KEY: changed, and in use');
    } catch {
      logger.warn('TLS_CERT, TLS_KEY: changed to what can not be used; the ones before stay in use');
    }
  };
  for (const path of [files.cert, files.key]) {
    if (path === undefined) continue;
    // By looking rather than by fs.watch: secrets that are mounted change by a link further up.
    watchFile(path, { interval: LOOK_EVERY_MS, persistent: false }, renew);
    server.once('close', () => unwatchFile(path, renew));
  }
}
