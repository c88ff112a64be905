import type { Config, MqttConsumer, MqttPublisher, MqttTransport } from '#platform';
import { MqttDeviceHearing } from './mqtt-device-hearing.js';

describe('since when devices are proven to be with the broker', () => {
  let sharedGroup: string | undefined;
  let consumer: { isHolder: boolean; hasMarks: boolean };
  let hearing: MqttDeviceHearing;
  let marks: Date[];
  let open: () => void;
  let subscribed: () => void;
  let reached: (markedAt: Date) => void;

  const start = new Date('2026-01-01T00:00:00Z').getTime();
  /** In milliseconds since the start. */
  const since = (): number | null => (hearing.since ? hearing.since.getTime() - start : null);
  const pass = (ms: number): void => {
    jest.advanceTimersByTime(ms);
  };
  const lastMark = (): Date => marks.at(-1) ?? new Date(0);

  beforeEach(() => {
    jest.useFakeTimers({ now: start });
    sharedGroup = undefined;
    marks = [];
    consumer = { isHolder: true, hasMarks: true };
    const config = {
      mqtt: {
        get sharedGroup() {
          return sharedGroup;
        },
      },
    };
    hearing = new MqttDeviceHearing(
      config as Config,
      { now: () => new Date() },
      Object.assign(consumer, {
        mark: (at: Date) => marks.push(at),
        onSubscribed: (listener: () => void) => (subscribed = listener),
      }) as unknown as MqttConsumer,
      { onConnected: (listener: () => void) => (open = listener) } as unknown as MqttPublisher,
      {
        onMarkReached: (listener: (markedAt: Date) => void) => (reached = listener),
      } as unknown as MqttTransport,
    );
  });
  afterEach(() => jest.useRealTimers());

  it('is when a mark has come back that was sent after both connections stood, and all before it is seen through', () => {
    pass(100);
    subscribed();
    const early = lastMark();
    pass(100);
    open();
    pass(100);
    reached(early);
    expect(since()).toBeNull();
    pass(100);
    reached(lastMark());
    expect(since()).toBe(401);
    pass(100);
    // As is sent from time to time.
    reached(new Date());
    expect(since()).toBe(401);
  });

  it.each<[string, () => void]>([
    ['way to the broker', () => open()],
    ['connection of the one who reads', () => subscribed()],
  ])('has to be proven anew when the %s has been lost', (_what, happens) => {
    open();
    subscribed();
    reached(lastMark());
    expect(since()).toBe(1);
    pass(5_000);
    const old = lastMark();
    happens();
    reached(old);
    expect(since()).toBeNull();
    pass(50);
    reached(lastMark());
    expect(since()).toBe(5_051);
  });

  it('is asked for again where a mark was lost, not too often', () => {
    open();
    subscribed();
    const sent = marks.length;
    for (let second = 0; second < 3; second += 1) {
      for (let asked = 0; asked < 5; asked += 1) expect(since()).toBeNull();
      pass(1_000);
    }
    expect(marks.length - sent).toBe(2);
  });

  it.each<[string, () => void]>([
    ['another replica reads', () => (consumer.isHolder = false)],
    ['others read as well', () => (sharedGroup = 'group')],
    ['the broker grants no marks', () => (consumer.hasMarks = false)],
  ])('is half a minute after the way is open where %s', (_what, arrange) => {
    arrange();
    subscribed();
    pass(1_000);
    open();
    reached(lastMark());
    expect(since()).toBe(31_000);
  });
});
