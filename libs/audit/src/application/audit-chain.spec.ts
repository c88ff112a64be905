import { createHash } from 'node:crypto';
import { AuditChain, CHAIN_START, type ChainPoint, type ChainRow } from './audit-chain.js';

/** Written out here once more, so that a change of the format is noticed: old logs must stay verifiable. */
const hashOf = (previous: string, text: string): string =>
  createHash('sha256').update(Buffer.from(previous, 'hex')).update(text, 'utf8').digest('hex');

const ROWS: ChainRow[] = [];
let previous = CHAIN_START.hash;
for (const [fields, text] of [
  [['1', 'anna', null, ''], '1:1,4:anna,-,0:'],
  [['2', 'béa', null, null], '1:2,4:béa,-,-'],
  [['3', 'carl', '7', 'x'], '1:3,4:carl,1:7,1:x'],
] as const) {
  previous = hashOf(previous, text);
  ROWS.push({ fields, hash: previous });
}
const row = (index: number): ChainRow => ROWS[index] ?? { fields: [], hash: '' };
const HEAD: ChainPoint = { id: 3, hash: row(2).hash };

function check(
  rows: readonly ChainRow[],
  head: ChainPoint | null = HEAD,
  anchor?: ChainPoint,
): string | null {
  const chain = new AuditChain(anchor);
  for (const each of rows) {
    const problem = chain.take(each);
    if (problem !== null) return problem;
  }
  return chain.end(head);
}

describe('the audit chain', () => {
  it('is whole as it was written, and when it is empty', () => {
    expect(check(ROWS)).toBeNull();
    expect(check([], CHAIN_START)).toBeNull();
  });

  it('names a row that was altered, in whichever field', () => {
    for (let index = 1; index < 4; index += 1) {
      const fields = row(1).fields.map((field, place) => (place === index ? 'other' : field));
      expect(check([row(0), { ...row(1), fields }, row(2)])).toContain('row 2 is not what was written');
    }
  });

  it('tells NULL, nothing and shifted fields apart', () => {
    for (const fields of [
      ['1', 'anna', '', ''],
      ['1', 'anna', null, null],
      ['1', 'anna,-', null, ''],
    ]) {
      expect(check([{ ...row(0), fields }, row(1), row(2)])).toContain('row 1 is not');
    }
  });

  it('names the row after one that was altered with its digest', () => {
    const forged = { fields: ['2', 'eve', null, null], hash: hashOf(row(0).hash, '1:2,3:eve,-,-') };
    expect(check([row(0), forged, row(2)])).toContain('row 3 is not what was written');
    expect(check([row(0), forged], { id: 2, hash: row(1).hash })).toContain('row 2 is not the one');
  });

  it('names a row that is missing: at the beginning, in the middle, at the end', () => {
    expect(check([row(1), row(2)])).toBe('row 1 is missing');
    expect(check([row(0), row(2)])).toBe('row 2 is missing');
    expect(check([row(0), row(1)])).toContain('row 3 is missing');
    expect(check([])).toContain('row 1 is missing');
  });

  it('finds a row behind the end, and a head that is missing', () => {
    expect(check(ROWS, { id: 2, hash: row(1).hash })).toContain('row 3 was put behind');
    expect(check(ROWS, null)).toContain('head');
  });

  it('finds, by a point noted elsewhere, an end that was cut off together with the head, and a chain made anew', () => {
    const noted = { id: 2, hash: row(1).hash };
    expect(check(ROWS, HEAD, noted)).toBeNull();
    expect(check([row(0)], { id: 1, hash: row(0).hash }, noted)).toContain('row 2 is missing');
    expect(check(ROWS, HEAD, { id: 2, hash: 'ab'.repeat(32) })).toContain(
      'row 2 is not the one that was noted',
    );
  });
});
