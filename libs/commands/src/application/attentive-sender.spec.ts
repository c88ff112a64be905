import type { Command } from '../domain/command.js';
import { CommandSender, type Hold, type Sending } from '../ports/command-sender.js';
import { AttentiveSender } from './attentive-sender.js';
import { CarefulSender } from './careful-sender.js';

/** `a1` is the first of device `a`. */
const command = (commandId: string): Command => ({ commandId, deviceId: commandId.charAt(0) }) as Command;

/** A broker that knows who listens. */
class FakeSender extends CommandSender {
  readonly available = true;
  tellsUnheard = true;
  readonly sent: string[] = [];
  readonly listening = new Set<string>();
  /** What becomes of some, whoever listens. */
  readonly fates = new Map<string, Sending>();
  /** Happens when something has been sent. */
  after: (commandId: string) => void = () => undefined;

  onAvailable(): void {
    // Nobody waits for it here.
  }

  send(all: readonly Command[], _now: Date, hold: Hold): Promise<readonly Sending[]> {
    const commands = all.filter((each) => hold.has(each));
    if (commands.length < all.length) return Promise.resolve(all.map(() => ({ kind: 'unsent' })));
    this.sent.push(commands.map(({ commandId }) => commandId).join(' '));
    return Promise.resolve(
      commands.map(({ commandId, deviceId }) => {
        const sending = this.fates.get(commandId) ?? {
          kind: this.listening.has(deviceId) || !this.tellsUnheard ? 'taken' : 'unheard',
        };
        this.after(commandId);
        return sending;
      }),
    );
  }
}

describe('the attentive sender', () => {
  let sender: FakeSender;
  let heard: Set<string>;
  let asked: string[];
  let hold: { holds: boolean; has: () => boolean };
  let attentive: AttentiveSender;

  beforeEach(() => {
    sender = new FakeSender();
    heard = new Set();
    asked = [];
    hold = { holds: true, has: () => hold.holds };
    attentive = new AttentiveSender(new CarefulSender(sender), sender, (deviceIds) => {
      asked.push(deviceIds.join(' '));
      return Promise.resolve(heard);
    });
  });

  const kinds = async (...ids: string[]): Promise<string> =>
    (await attentive.send(ids.map(command), () => new Date(0), hold)).map(({ kind }) => kind).join(' ');

  it('sends the first of each device, and the others when that was heard, without asking anybody', async () => {
    for (const device of ['a', 'b']) sender.listening.add(device);
    expect(await kinds('a1', 'b1', 'b2', 'a2', 'a3')).toBe('taken taken taken taken taken');
    expect(sender.sent).toEqual(['a1 b1', 'b2 a2 a3']);
    expect(asked).toEqual([]);
  });

  it('keeps all back of a device that nobody has heard of, and of no other', async () => {
    sender.listening.add('b');
    heard.add('c');
    expect(await kinds('a1', 'a2', 'b1', 'b2', 'c1', 'c2')).toBe('unheard unheard taken taken taken taken');
    expect(sender.sent).toEqual(['a1 b1 c1', 'c1', 'b2 c2', 'c2']);
    expect(asked).toEqual(['a c', 'c']);
  });

  it('sends it once more to a device that has come back just after', async () => {
    heard.add('a');
    sender.after = () => sender.listening.add('a');
    expect(await kinds('a1', 'a2')).toBe('taken taken');
    expect(sender.sent).toEqual(['a1', 'a1', 'a2']);
  });

  it('does not say that it was sent where it was no more to be sent then', async () => {
    heard.add('a');
    sender.after = () => (hold.holds = false);
    expect(await kinds('a1', 'a2')).toBe('unsent unsent');
  });

  it('lets none overtake where a device comes back in the middle', async () => {
    sender.after = () => sender.listening.add('a');
    expect(await kinds('a1', 'a2', 'a3')).toBe('unheard unheard unheard');
    expect(await kinds('a1', 'a2', 'a3')).toBe('taken taken taken');
    expect(sender.sent).toEqual(['a1', 'a1', 'a2 a3']);
  });

  it('says of each what is true where a device goes in the middle', async () => {
    sender.listening.add('a');
    sender.after = (commandId) => {
      if (commandId === 'a2') sender.listening.delete('a');
    };
    expect(await kinds('a1', 'a2', 'a3')).toBe('taken taken unheard');
  });

  it.each<[Sending, string]>([
    [{ kind: 'unsent' }, 'unsent unsent'],
    [{ kind: 'unanswered', alone: false }, 'unanswered unsent'],
    [{ kind: 'refused', error: 'too_large' }, 'refused taken'],
  ])('where the first is %j: %s', async (fate, expected) => {
    sender.listening.add('a');
    sender.fates.set('a1', fate);
    expect(await kinds('a1', 'a2')).toBe(expected);
  });

  it('sends no more of a device once its commands are not held any more', async () => {
    for (const device of ['a', 'b']) sender.listening.add(device);
    sender.after = () => (hold.holds = false);
    expect(await kinds('a1', 'a2', 'b1', 'b2')).toBe('taken unsent taken unsent');
    expect(sender.sent).toEqual(['a1 b1']);
  });

  it('sends all at once where the broker can not tell', async () => {
    sender.tellsUnheard = false;
    expect(await kinds('a1', 'a2', 'b1')).toBe('taken taken taken');
    expect(sender.sent).toEqual(['a1 a2 b1']);
  });
});
