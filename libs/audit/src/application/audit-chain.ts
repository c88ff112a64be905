import { createHash } from 'node:crypto';

/** A row of `audit_log`, its fields as text in the order of the digest, the first of them its id. */
export interface ChainRow {
  readonly fields: readonly (string | null)[];
  /** Hexadecimal. */
  readonly hash: string;
}

/** A place in the chain: a row's id and its digest. */
export interface ChainPoint {
  readonly id: number;
  readonly hash: string;
}

/** Before the first row. */
export const CHAIN_START: ChainPoint = { id: 0, hash: '00'.repeat(32) };

/**
 * Follows the chain of the audit log, row by row, and finds the first that is not what was written: one that was
 * altered, is missing in the middle, was put in between, or is missing at the end, where `audit_head` still knows it.
 *
 * What it can't find by itself: whoever may do everything with the database can compute all digests anew from some row
 * on, and set the head to match; so can whoever cuts the end off and sets the head back. That contradicts a point of the
 * chain that was noted outside: each check tells its last one, to be kept elsewhere and given to a later check.
 */
export class AuditChain {
  private last = CHAIN_START;
  private contradicted: number | null = null;

  /** @param anchor a point noted earlier. */
  constructor(private readonly anchor: ChainPoint = CHAIN_START) {}

  /** Where it has got to. */
  get point(): ChainPoint {
    return this.last;
  }

  /** Takes the next row. @returns what is wrong with it, or null. */
  take(row: ChainRow): string | null {
    const expected = this.last.id + 1;
    const id = Number(row.fields[0]);
    if (id !== expected) return `row ${expected} is missing`;
    if (digest(this.last.hash, row.fields) !== row.hash) {
      return `row ${id} is not what was written, or does not follow row ${this.last.id} as it was written`;
    }
    this.last = { id, hash: row.hash };
    if (id === this.anchor.id && row.hash !== this.anchor.hash) this.contradicted = id;
    return this.contradicted === null ? null : `row ${id} is not the one that was noted`;
  }

  /** Takes the end. @param head what the log takes for its last row. @returns what is wrong with it, or null. */
  end(head: ChainPoint | null): string | null {
    if (!head) return 'the head of the chain is missing';
    if (this.last.id < head.id) return `row ${this.last.id + 1} is missing: the end was cut off`;
    if (this.last.id > head.id) return `row ${head.id + 1} was put behind the end`;
    if (this.last.hash !== head.hash) return `row ${this.last.id} is not the one that was written last`;
    if (this.last.id < this.anchor.id)
      return `row ${this.last.id + 1} is missing: row ${this.anchor.id} was noted`;
    return null;
  }
}

/** As `audit_digest` in the database, but not in the hands of whoever might replace that. */
function digest(previous: string, fields: readonly (string | null)[]): string {
  const text = fields
    .map((field) => (field === null ? '-' : `${Buffer.byteLength(field)}:${field}`))
    .join(',');
  return createHash('sha256').update(Buffer.from(previous, 'hex')).update(text).digest('hex');
}
