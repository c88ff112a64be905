import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(__dirname, '../../../..');
const text = readFileSync(join(ROOT, 'SECURITY.md'), 'utf8');

/** A file in backticks, and the names in quotes that follow it. */
const CITATION = /`((?:test|libs|apps)\/[\w/.-]+\.(?:e2e|spec)\.ts)`((?:,? "[^"]+")*)/g;
const cited = [...text.matchAll(CITATION)].map(([, file = '', names = '']) => ({
  file,
  names: [...names.matchAll(/"([^"]+)"/g)].map(([, name = '']) => name),
}));

describe('SECURITY.md', () => {
  it('names a test for every threat', () => {
    const rows = text.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| asset'));
    const threats = rows.filter((line) => !/^\| -+ /.test(line));
    expect(threats.length).toBeGreaterThan(0);
    for (const threat of threats) expect(threat).toMatch(/\.(e2e|spec)\.ts`/);
  });

  it.each([...new Set(cited.map(({ file }) => file))])('cites %s, which exists', (file) => {
    expect(existsSync(join(ROOT, file))).toBe(true);
  });

  it.each(cited.flatMap(({ file, names }) => names.map((name) => [file, name] as const)))(
    'cites of %s the test "%s", which is there',
    (file, name) => {
      expect(readFileSync(join(ROOT, file), 'utf8')).toContain(name);
    },
  );
});
