import fc from 'fast-check';
import type { Reading } from '../domain/reading.js';
import { copyText } from './copy-text.js';

/** What COPY's text format means by a field (PostgreSQL manual, COPY, "Text Format"). */
const UNESCAPED: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };
const unescape = (field: string): string =>
  field.replace(/\\(.)/gs, (_all, char: string) => UNESCAPED[char] ?? char);
const rows = (text: string): string[][] =>
  text
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split('\t').map(unescape));

const reading = (more: Partial<Reading> = {}): Reading => ({
  deviceId: 'device_1',
  metricType: 'systolic',
  value: 120.5,
  unit: 'mm[Hg]',
  timestamp: '2024-01-23T10:30:00.000Z',
  metadata: {},
  receivedAt: new Date('2024-01-23T10:30:01.000Z'),
  ...more,
});

describe('copyText', () => {
  it('writes a row a reading', () => {
    const later = new Date('2024-01-23T10:30:02.000Z');
    const text = copyText([
      reading(),
      reading({ metadata: { note: 'x' }, receivedAt: later }),
      reading(),
    ]).toString();
    const fields = ['device_1', 'systolic', '120.5', 'mm[Hg]', '2024-01-23T10:30:00.000Z'];
    expect(rows(text)).toEqual([
      [...fields, '{}', '2024-01-23T10:30:01.000Z'],
      [...fields, '{"note":"x"}', '2024-01-23T10:30:02.000Z'],
      [...fields, '{}', '2024-01-23T10:30:01.000Z'],
    ]);
  });

  it('keeps whatever metadata say in their field', () => {
    fc.assert(
      fc.property(
        fc.array(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()), { minLength: 1 }),
        (all) => {
          const found = rows(copyText(all.map((metadata) => reading({ metadata }))).toString('utf8'));
          expect(found.map((row) => row.length)).toEqual(all.map(() => 7));
          expect(found.map((row) => row[5])).toEqual(all.map((metadata) => JSON.stringify(metadata)));
        },
      ),
    );
  });
});
