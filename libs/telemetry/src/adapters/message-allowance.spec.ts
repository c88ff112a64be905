import { MessageAllowance } from './message-allowance.js';

describe('MessageAllowance', () => {
  let allowance: MessageAllowance;
  const taken = (times: number): number =>
    Array.from({ length: times }, () => allowance.take()).filter(Boolean).length;

  beforeEach(() => {
    jest.useFakeTimers();
    allowance = new MessageAllowance();
  });
  afterEach(() => jest.useRealTimers());

  it('gives 60 at once, and then one a second', () => {
    expect(taken(100)).toBe(60);
    jest.advanceTimersByTime(3_500);
    expect(taken(100)).toBe(3);
    jest.advanceTimersByTime(500);
    expect(taken(100)).toBe(1);
  });

  it('saves no more than 60 up', () => {
    jest.advanceTimersByTime(3_600_000);
    expect(taken(100)).toBe(60);
  });
});
