import { RecentNames } from './recent-names.js';

describe('RecentNames', () => {
  it('knows at least the last 10,000 names, and forgets', () => {
    const names = new RecentNames();
    const name = (number: number): string => `command.sent ${number}`;
    for (let number = 0; number < 30_000; number += 1) expect(names.add(name(number))).toBe(true);
    expect(names.add(name(29_999))).toBe(false);
    expect(names.add(name(20_000))).toBe(false);
    expect(names.add(name(0))).toBe(true);
  });
});
