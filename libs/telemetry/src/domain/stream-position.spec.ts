import { besideOf, SinceUnknown, StreamPosition } from './stream-position.js';

const at = (text: string): StreamPosition => StreamPosition.parse(text);

describe('a position in the stream', () => {
  it.each(['2.71.0.8', '2.71.0.8~9.0.0.3', '12.1.2.3~9.4.5.6~10.0.0.0'])(
    'is read as it is written: %s',
    (id) => {
      expect(at(id).toString()).toBe(id);
      expect(at(`${id}_x-Y_z~1`).toString()).toBe(id);
      expect(at(id).idOf('name')).toBe(`${id}_name`);
    },
  );

  it.each([
    '',
    '2',
    '2.71.0',
    '2.71.0.8~',
    '2.71.0.8~9',
    '2.71.0.8~2.1.0.0',
    '2.71.0.8~9.1.0.0~9.2.0.0',
    '2.71.0.8 ',
  ])('is not %j', (id) => {
    expect(() => at(id)).toThrow(SinceUnknown);
  });

  it('speaks of several runs, each without the others', () => {
    const { parts } = at('12.1.2.3~9.4.5.6_name');
    expect([...parts.keys()]).toEqual([12, 9]);
    expect(parts.get(9)).toEqual(new StreamPosition(9, 4, 5, 6));
    expect(besideOf(12, parts)).toBe('~9.4.5.6');
    expect(besideOf(9, parts)).toBe('~12.1.2.3');
    expect(besideOf(9, new Map([[9, at('9.4.5.6')]]))).toBe('');
  });

  it.each([
    ['9.4.1.6', '9.4.1.6', true],
    ['9.4.1.6', '9.4.0.5', true],
    ['9.4.1.6', '9.3.7.6', true],
    ['9.4.1.6', '9.4.2.6', false],
    ['9.4.1.6', '9.5.0.6', false],
    ['9.4.1.6', '9.1.0.7', false],
  ])('%s has seen what %s has: %s', (one, other, covers) => {
    expect(at(one).covers(at(other))).toBe(covers);
  });

  it.each([
    ['9.4.0.0', '9.10.0.0', 6],
    ['9.4.0.0~8.1.0.0', '9.10.0.0~8.2.0.0', 7],
    // Begun since: nothing of it was seen.
    ['9.4.0.0', '9.4.0.0~10.7.0.0', 7],
    // Begun before, and not named: all of it was seen.
    ['9.4.0.0', '9.4.0.0~8.7.0.0', 0],
    // Over by now: how much is left nobody knows.
    ['9.4.0.0', '10.7.0.0', Infinity],
  ])('from %s to %s there are so many messages: %s', (after, until, count) => {
    expect(at(after).messagesUntil(at(until))).toBe(count);
  });
});
