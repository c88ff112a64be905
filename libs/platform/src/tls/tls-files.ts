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

/** What this service serves HTTPS with: forward secrecy and authenticated encryption only, in TLS 1.2 too. */
const SERVED_WITH = {
  minVersion: 'TLSv1.2',
  honorCipherOrder: true,
  ciphers: [
    'TLS_AES_256_GCM_SHA384',
    'TLS_CHACHA20_POLY1305_SHA256',
    'TLS_AES_128_GCM_SHA256',
    'ECDHE-ECDSA-AES256-GCM-SHA384',
    'ECDHE-RSA-AES256-GCM-SHA384',
    'ECDHE-ECDSA-CHACHA20-POLY1305',
    'ECDHE-RSA-CHACHA20-POLY1305',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'ECDHE-RSA-AES128-GCM-SHA256',
  ].join(':'),
} as const;

/** All that HTTPS is served with. Reads the files anew each time. @throws when one can't be read. */
export function servedTls(files: TlsFiles): typeof SERVED_WITH & ReturnType<typeof readTlsFiles> {
  return { ...SERVED_WITH, ...readTlsFiles(files) };
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
