import { judgeBattery } from './battery.js';
import { NEVER_SEEN } from './presence.fixture.js';

const at = (second: number): Date => new Date(Date.UTC(2024, 0, 23, 10, 30, second));

/** Which of the readings, a second apart, are told of. */
function told(readings: readonly (number | null)[], limit = 20): (number | null)[] {
  let presence = NEVER_SEEN;
  return readings.flatMap((battery, second) => {
    const judged = judgeBattery({ ...presence, battery }, limit, at(second));
    ({ presence } = judged);
    if (!judged.lowBattery) return [];
    expect(judged.lowBattery).toEqual({ since: at(second).getTime(), percent: battery });
    return [battery];
  });
}

it.each([
  ['once in a discharge', [30, 20, 19, 18, 3], [19]],
  ['not again while it goes up and down', [19, 24, 19, 22, 18], [19]],
  ['again once it has risen by 5 above the limit', [19, 25, 19], [19, 19]],
  ['at once when the first is low', [5], [5]],
  ['not of what is not known', [null, 30, null], []],
])('tells of a low battery %s', (_what, readings, expected) => {
  expect(told(readings)).toEqual(expected);
});

it('calls none low where the limit is 0, and a full one charged whatever the limit', () => {
  expect(told([0], 0)).toEqual([]);
  expect(told([97, 99, 100, 97], 98)).toEqual([97, 97]);
});
