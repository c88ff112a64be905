import { KeptBack } from './kept-back.js';

describe('devices for which commands are kept back', () => {
  it('are due after one second, and twice as long each time, up to 30', () => {
    const kept = new KeptBack();
    let now = 0;
    const waits: number[] = [];
    for (let round = 0; round < 8; round += 1) {
      kept.keep('a', now);
      const before = now;
      while (kept.due(now).length === 0) now += 500;
      waits.push(now - before);
    }
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    kept.forget('a');
    expect({ size: kept.size, has: kept.has('a'), due: kept.due(Infinity) }).toEqual({
      size: 0,
      has: false,
      due: [],
    });
    kept.keep('a', now);
    expect(kept.due(now + 1_000)).toEqual(['a']);
  });

  it('are due no later where they are tried before their time', () => {
    const kept = new KeptBack();
    kept.keep('a', 0);
    kept.keep('a', 900);
    expect([kept.due(999), kept.due(1_000)]).toEqual([[], ['a']]);
  });

  it('are forgotten, the first first, when they are too many', () => {
    const kept = new KeptBack();
    for (let index = 0; index <= 10_000; index += 1) kept.keep(`device_${index}`, 0);
    kept.keep('device_1', 1_000);
    expect([kept.size, kept.has('device_0'), kept.has('device_1')]).toEqual([10_000, false, true]);
  });
});
