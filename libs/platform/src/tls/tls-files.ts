import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';

/** PEM files of one end of a TLS connection. */
export interface TlsFiles {
  /** Who may have signed the other end's certificate; undefined: the authorities Node.js knows. */
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

/** Reads them, anew each time: certificates are renewed. @throws when one can't be read. */
export function readTlsFiles({ ca, cert, key }: TlsFiles): { ca?: Buffer; cert?: Buffer; key?: Buffer } {
  return {
    ...(ca !== undefined && { ca: readFileSync(ca) }),
    ...(cert !== undefined && { cert: readFileSync(cert) }),
    ...(key !== undefined && { key: readFileSync(key) }),
  };
}

/** @returns `ca` when that holds no certificate, a text when certificate and key can't be used; null: all is well. */
export function tlsFilesProblem(files: TlsFiles): string | null {
  const { ca, ...pair } = files;
  // OpenSSL takes a file without any certificate for an empty list of authorities, and trusts nobody.
  if (ca !== undefined && !holdsCertificate(ca)) return 'ca';
  try {
    createSecureContext(readTlsFiles({ ca: undefined, ...pair }));
    return null;
  } catch {
    return 'expected a PEM certificate and the key that belongs to it, without a passphrase';
  }
}

function holdsCertificate(path: string): boolean {
  try {
    return new X509Certificate(readFileSync(path)).subject !== '';
  } catch {
    return false;
  }
}
