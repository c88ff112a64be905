import { Optimism } from './optimism.js';

/** How many batches in a row are not tried. */
function pause(optimism: Optimism): number {
  let batches = 0;
  while (!optimism.ask()) batches += 1;
  return batches;
}

describe('Optimism', () => {
  it('tries every batch as long as that succeeds', () => {
    const optimism = new Optimism();
    for (let batch = 0; batch < 10; batch += 1) {
      expect(optimism.ask()).toBe(true);
      optimism.wasRight();
    }
  });

  it('waits after a failure, twice as long each time, up to a limit', () => {
    const optimism = new Optimism();
    const pauses: number[] = [];
    for (let failure = 0; failure < 9; failure += 1) {
      optimism.wasWrong();
      pauses.push(pause(optimism));
    }
    expect(pauses).toEqual([4, 8, 16, 32, 64, 128, 256, 256, 256]);
  });

  it('begins anew after a success', () => {
    const optimism = new Optimism();
    optimism.wasWrong();
    optimism.wasWrong();
    expect(pause(optimism)).toBe(8);
    optimism.wasRight();
    optimism.wasWrong();
    expect(pause(optimism)).toBe(4);
  });
});
