import { Standstill } from './standstill.js';

describe('Standstill', () => {
  beforeEach(() => jest.useFakeTimers());
  afterEach(() => jest.useRealTimers());

  const started = (): { watch: Standstill; found: jest.Mock } => {
    const found = jest.fn();
    const watch = new Standstill(4_000, found);
    watch.start();
    return { watch, found };
  };

  it('finds none while its beats come', () => {
    const { watch, found } = started();
    jest.advanceTimersByTime(60_000);
    watch.check();
    expect(found).not.toHaveBeenCalled();
    watch.stop();
  });

  it('finds a pause once, whoever looks first', () => {
    const { watch, found } = started();
    jest.setSystemTime(Date.now() + 4_000);
    watch.check();
    expect(found).toHaveBeenCalledTimes(1);
    jest.advanceTimersByTime(10_000);
    expect(found).toHaveBeenCalledTimes(1);
    jest.setSystemTime(Date.now() + 4_000);
    jest.advanceTimersByTime(1_000);
    expect(found).toHaveBeenCalledTimes(2);
    watch.stop();
  });

  it('takes no clock that is set back for a pause, nor a short one', () => {
    const { watch, found } = started();
    jest.setSystemTime(Date.now() - 3_600_000);
    watch.check();
    jest.setSystemTime(Date.now() + 2_900);
    jest.advanceTimersByTime(1_000);
    expect(found).not.toHaveBeenCalled();
    watch.stop();
  });
});
