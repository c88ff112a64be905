import { WebhookLine, type LaneWork } from './webhook-line.js';

/** Work that ends when it is told to. */
class Bench {
  readonly begun: string[] = [];
  private readonly ends = new Map<string, () => void>();

  work(name: string): LaneWork {
    return () => {
      this.begun.push(name);
      return new Promise((resolve) => this.ends.set(name, resolve));
    };
  }

  async end(name: string): Promise<void> {
    this.ends.get(name)?.();
    await turns();
  }
}

const turns = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
};

describe('the work of one webhook', () => {
  it('is done so many lanes at once, and looked for when there is room', async () => {
    const bench = new Bench();
    const finds = [['a', 'b', 'c'], ['d'], []];
    let looks = 0;
    const line = new WebhookLine(2, () => {
      looks += 1;
      return Promise.resolve((finds.shift() ?? []).map((name) => bench.work(name)));
    });
    line.wake();
    await turns();
    expect([bench.begun, looks]).toEqual([['a', 'b'], 1]);
    await bench.end('a');
    expect([bench.begun, looks]).toEqual([['a', 'b', 'c'], 2]);
    await bench.end('b');
    expect(bench.begun).toEqual(['a', 'b', 'c', 'd']);
    await bench.end('c');
    await bench.end('d');
    expect(line.isIdle).toBe(true);
  });

  it('is looked for again when something came while it was looked for', async () => {
    const answers: ((found: LaneWork[]) => void)[] = [];
    const line = new WebhookLine(2, () => new Promise((resolve) => answers.push(resolve)));
    line.wake();
    line.wake();
    expect(answers).toHaveLength(1);
    answers[0]?.([]);
    await turns();
    expect(answers).toHaveLength(2);
    answers[1]?.([]);
    await turns();
    expect(line.isIdle).toBe(true);
    expect(answers).toHaveLength(2);
  });

  it('ends with what has begun, once closed', async () => {
    const bench = new Bench();
    let looks = 0;
    const line = new WebhookLine(1, () => {
      looks += 1;
      return Promise.resolve([bench.work('a'), bench.work('b')]);
    });
    line.wake();
    await turns();
    let isClosed = false;
    const closed = line.close().then(() => (isClosed = true));
    await bench.end('a');
    // Claimed already: it gives its claim back by itself.
    expect([bench.begun, isClosed]).toEqual([['a', 'b'], false]);
    await bench.end('b');
    await closed;
    line.wake();
    await turns();
    expect(looks).toBe(1);
  });
});
