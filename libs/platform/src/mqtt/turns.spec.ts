import { Turns } from './turns.js';

describe('Turns', () => {
  it('come in the order they were taken, whoever is ready first', async () => {
    const turns = new Turns();
    const order: string[] = [];
    const [first, second, third] = [turns.take(), turns.take(), turns.take()];
    const wait = (turn: typeof first, name: string): Promise<void> =>
      turn.come.then(() => {
        order.push(name);
        turn.pass();
      });
    const late = [wait(third, 'third'), wait(second, 'second')];
    await Promise.resolve();
    expect(order).toEqual([]);
    await wait(first, 'first');
    await Promise.all(late);
    expect(order).toEqual(['first', 'second', 'third']);
  });
});
