import type { Command } from '../domain/command.js';
import { CommandSender, type Hold, type Sending } from '../ports/command-sender.js';
import { CarefulSender } from './careful-sender.js';

const command = (commandId: string): Command => ({ commandId }) as Command;
const now = (): Date => new Date(0);
/** What has been lost meanwhile. */
const lost = new Set<string>();
const hold: Hold = { holds: true, has: ({ commandId }) => !lost.has(commandId) };
const TAKEN: Sending = { kind: 'taken' };
const UNSENT: Sending = { kind: 'unsent' };

/** A broker that ends the connection over some commands; then there is none until {@link connect}. */
class FakeSender extends CommandSender {
  readonly available = true;
  readonly tellsUnheard = false;
  readonly sent: string[][] = [];
  poison = new Set<string>();
  /** How long it takes to end the connection. */
  delay = 0;
  private connected = true;

  connect(): void {
    this.connected = true;
  }

  onAvailable(): void {
    // Nobody waits for it here.
  }

  async send(commands: readonly Command[], _now: Date, held: Hold): Promise<readonly Sending[]> {
    if (!this.connected) throw new Error('there is no connection');
    if (!commands.every((each) => held.has(each))) return commands.map(() => UNSENT);
    const ids = commands.map(({ commandId }) => commandId);
    this.sent.push(ids);
    const first = ids.findIndex((id) => this.poison.has(id));
    if (first < 0) return ids.map(() => TAKEN);
    this.connected = false;
    await jest.advanceTimersByTimeAsync(this.delay);
    return ids.map((_id, index) =>
      index < first ? TAKEN : { kind: 'unanswered', alone: ids.length - first === 1 },
    );
  }
}

describe('the careful sender', () => {
  let sender: FakeSender;
  let careful: CarefulSender;

  beforeEach(() => {
    jest.useFakeTimers();
    sender = new FakeSender();
    lost.clear();
    careful = new CarefulSender(sender);
  });
  afterEach(() => jest.useRealTimers());

  const send = (...ids: string[]): Promise<readonly Sending[]> => {
    sender.connect();
    return careful.send(ids.map(command), now, hold);
  };
  const kinds = async (...ids: string[]): Promise<string[]> => (await send(...ids)).map(({ kind }) => kind);

  it('finds the one among many, and takes none of the others for it', async () => {
    sender.poison.add('b');
    expect(await kinds('a', 'b', 'c', 'd')).toEqual(['taken', 'unanswered', 'unanswered', 'unanswered']);
    expect(await kinds('c', 'b', 'd')).toEqual(['taken', 'unanswered', 'unsent']);
    expect(await kinds('b', 'd')).toEqual(['unanswered', 'unsent']);
    const [refused, next] = await send('b', 'd');
    expect(refused).toMatchObject({ kind: 'refused', error: expect.stringContaining('3 times') });
    // The connection has ended over it.
    expect(next).toEqual(UNSENT);
    expect(await kinds('d')).toEqual(['taken']);
    expect(careful.suspected).toEqual([]);
    sender.sent.length = 0;
    await send('e', 'f');
    expect(sender.sent).toEqual([['e', 'f']]);
  });

  it('sends one at a time, whoever asks, while there is a suspect', async () => {
    sender.poison.add('a');
    await send('a');
    sender.poison.clear();
    sender.sent.length = 0;
    sender.connect();
    await Promise.all([
      careful.send(['b', 'c'].map(command), now, hold),
      careful.send(['a'].map(command), now, hold),
    ]);
    expect(sender.sent).toEqual([['b'], ['c'], ['a']]);
    expect(careful.suspected).toEqual([]);
  });

  it('sends none that is lost while it waits for its turn, and none behind it', async () => {
    sender.poison.add('a');
    await send('a');
    sender.poison.clear();
    sender.sent.length = 0;
    sender.connect();
    const first = careful.send(['b', 'c'].map(command), now, hold);
    const second = careful.send(['d', 'e', 'f'].map(command), now, hold);
    lost.add('e');
    await first;
    expect((await second).map(({ kind }) => kind)).toEqual(['taken', 'unsent', 'unsent']);
    expect(sender.sent).toEqual([['b'], ['c'], ['d']]);
  });

  it('blames none for a connection that ends after a silence', async () => {
    sender.poison.add('a');
    sender.delay = 5_000;
    for (let attempt = 0; attempt < 10; attempt += 1) expect(await kinds('a')).toEqual(['unanswered']);
  });

  it('counts nothing while there is no connection, and forgets what others have sent', async () => {
    sender.poison.add('a');
    await send('a');
    for (let attempt = 0; attempt < 10; attempt += 1)
      expect(await careful.send([command('a')], now, hold)).toEqual([UNSENT]);
    expect(careful.suspected).toEqual(['a']);
    careful.keepOnly([]);
    expect(careful.suspected).toEqual([]);
  });
});
