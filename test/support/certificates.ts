import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Paths of PEM files. */
export interface Issued {
  readonly cert: string;
  readonly key: string;
}

/** A certificate authority of a test's own, in a folder of its own. */
export class TestAuthority {
  private constructor(
    private readonly folder: string,
    private readonly own: Issued,
  ) {}

  /** Whether OpenSSL is installed; without it, suites that need it are skipped and say so. */
  static get available(): boolean {
    try {
      execFileSync('openssl', ['version'], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  }

  static create(name: string): TestAuthority {
    const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-certificates-'));
    // Servers that give root up must reach it.
    chmodSync(folder, 0o755);
    const own = { cert: join(folder, 'ca.pem'), key: join(folder, 'ca.key') };
    openssl(
      'req',
      '-x509',
      ...KEY,
      '-keyout',
      own.key,
      '-out',
      own.cert,
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
    );
    return new TestAuthority(folder, own);
  }

  /** Its certificate, for those who should trust it. */
  get cert(): string {
    return this.own.cert;
  }

  /** @param names what it is for, such as `DNS:localhost`. */
  issue(name: string, names: string): Issued {
    const [cert, key, request, extensions] = ['pem', 'key', 'csr', 'ext'].map((end) =>
      join(this.folder, `${name}.${end}`),
    ) as [string, string, string, string];
    writeFileSync(extensions, `subjectAltName=${names}\n`);
    openssl('req', ...KEY, '-keyout', key, '-out', request, '-subj', `/CN=${name}`);
    openssl(
      ...['x509', '-req', '-in', request, '-days', '2', '-CA', this.own.cert, '-CAkey', this.own.key],
      ...['-CAcreateserial', '-extfile', extensions, '-out', cert],
    );
    chmodSync(key, 0o644);
    return { cert, key };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'] as const;

function openssl(...args: readonly string[]): void {
  execFileSync('openssl', args, { stdio: 'ignore' });
}
