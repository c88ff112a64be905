import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

/** What a stored secret begins with: how it is stored. */
const PLAIN = 0;
const AES_256_GCM = 1;
/** NIST SP 800-38D, section 8.2.2: 96 random bits. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;

/**
 * Keeps secrets in the database: encrypted with WEBHOOKS_KEY, where there is one. Each is bound to its webhook: in another row
 * it can't be read.
 */
export class SecretBox {
  private readonly key: Uint8Array | null;

  /** @param passphrase undefined: secrets are stored as they are. */
  constructor(passphrase: string | undefined) {
    this.key =
      passphrase === undefined
        ? null
        : new Uint8Array(hkdfSync('sha256', passphrase, '', 'mqtt-service webhooks', KEY_BYTES));
  }

  seal(secret: Uint8Array, webhookId: string): Buffer {
    if (!this.key) return Buffer.concat([Buffer.of(PLAIN), secret]);
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.key, nonce).setAAD(Buffer.from(webhookId));
    const sealed = Buffer.concat([cipher.update(secret), cipher.final()]);
    return Buffer.concat([Buffer.of(AES_256_GCM), nonce, cipher.getAuthTag(), sealed]);
  }

  /** @returns null for what was sealed with another key, or for another webhook. */
  open(stored: Buffer, webhookId: string): Uint8Array | null {
    const content = stored.subarray(1);
    if (stored[0] === PLAIN) return content;
    if (stored[0] !== AES_256_GCM || !this.key) return null;
    const nonce = content.subarray(0, NONCE_BYTES);
    const tag = content.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES);
    try {
      const decipher = createDecipheriv('aes-256-gcm', this.key, nonce, { authTagLength: TAG_BYTES })
        .setAAD(Buffer.from(webhookId))
        .setAuthTag(tag);
      return Buffer.concat([decipher.update(content.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
    } catch {
      return null;
    }
  }
}
