import { BackgroundWork } from './background-work.js';

const coded = (code: string): Error => Object.assign(new Error('a patient of 42 years'), { code });

const reject = Promise.reject.bind(Promise) as (reason: unknown) => Promise<never>;

function stage() {
  const complaints: string[] = [];
  return { complaints, work: new BackgroundWork((problem) => complaints.push(problem)) };
}

describe('BackgroundWork', () => {
  it.each([
    ['its code', coded('57P01'), '57P01'],
    ['its message, where it has no code', new Error('nothing is open'), 'nothing is open'],
    ['its name, where the language made it', new SyntaxError('Unexpected token 42'), 'SyntaxError'],
    ['nothing, where it is no error', 'a patient', 'unknown error'],
  ])('complains of an error by %s', async (_what, error, problem) => {
    const { complaints, work } = stage();
    await work.attempt(() => reject(error));
    expect(complaints).toEqual([problem]);
  });

  it('complains of a problem once, of another at once, and of the first again when something has gone well', async () => {
    const { complaints, work } = stage();
    for (const code of ['A', 'A', 'B', 'B']) await work.attempt(() => Promise.reject(coded(code)));
    work.wentWell();
    await work.attempt(() => Promise.reject(coded('B')));
    expect(complaints).toEqual(['A', 'B', 'B']);
  });

  it('repeats what it insists on until it succeeds', async () => {
    const { complaints, work } = stage();
    let times = 0;
    const result = await work.insist(() => {
      times += 1;
      return times < 3 ? Promise.reject(coded('A')) : Promise.resolve('done');
    });
    expect([result, times, complaints]).toEqual(['done', 3, ['A']]);
  });

  it('insists no more once it is of no use', async () => {
    const { work } = stage();
    let times = 0;
    const insisted = work.insist(
      () => {
        times += 1;
        return Promise.reject(coded('A'));
      },
      () => times < 2,
    );
    await expect(insisted).rejects.toThrow('a patient of 42 years');
    expect(times).toBe(2);
  });

  it('insists no more once it is to stop, and does not sleep it off', async () => {
    const { work } = stage();
    const insisted = work.insist(() => Promise.reject(coded('A')));
    await Promise.resolve();
    work.stop();
    await expect(insisted).rejects.toThrow('a patient of 42 years');
    expect(work.isStopping).toBe(true);
  });
});
