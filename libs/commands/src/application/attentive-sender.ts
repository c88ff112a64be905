import type { Command } from '../domain/command.js';
import type { CommandSender, Hold, Sending } from '../ports/command-sender.js';
import type { CarefulSender } from './careful-sender.js';

/**
 * Tells a device that the broker has lost from one that only does not listen. A broker that was restarted without its
 * sessions takes a command for a device that has not come back yet, and nobody ever gets it; a broker that knows says so.
 *
 * Where nobody listens, `sent` is true of a device that has been heard of since the connection to the broker stands: it
 * has come back, and does not want commands. It may have come back just after it was sent one: what nobody got goes out once
 * more, now that the device is known to be there. Of any other device it may be the broker that has forgotten what it wanted:
 * its commands are `unheard`, and go out another time. So that none overtakes one that was unheard, where a device comes
 * back in the middle, the first of several goes out alone.
 */
export class AttentiveSender {
  /**
   * @param heardAmong those of the devices that have been heard of since the connection stands; asked for rarely. Where it
   * can't tell while the commands are held, none.
   */
  constructor(
    private readonly careful: CarefulSender,
    private readonly sender: Pick<CommandSender, 'tellsUnheard'>,
    private readonly heardAmong: (deviceIds: readonly string[], hold: Hold) => Promise<ReadonlySet<string>>,
  ) {}

  /**
   * Sends commands, each device's in their order.
   * @returns for each what has become of it; unheard: it is to go out again, and nobody can have got it.
   * @throws what `heardAmong` does.
   */
  async send(commands: readonly Command[], now: () => Date, hold: Hold): Promise<readonly Sending[]> {
    if (!this.sender.tellsUnheard) return this.careful.send(commands, now, hold);
    const firsts = new Map<string, Command>();
    for (const command of commands) if (!firsts.has(command.deviceId)) firsts.set(command.deviceId, command);
    const first = await this.sendAll([...firsts.values()], now, hold);
    const ofDevice = new Map([...firsts.keys()].map((deviceId, index) => [deviceId, first[index] ?? UNSENT]));
    const isNext = (command: Command): boolean =>
      command !== firsts.get(command.deviceId) && goesOn(ofDevice.get(command.deviceId));
    const next = (await this.sendAll(commands.filter(isNext), now, hold)).values();
    return commands.map((command) => {
      if (isNext(command)) return next.next().value ?? UNSENT;
      const ofFirst = ofDevice.get(command.deviceId) ?? UNSENT;
      if (command === firsts.get(command.deviceId) || ofFirst.kind === 'unheard') return ofFirst;
      return UNSENT;
    });
  }

  private async sendAll(
    commands: readonly Command[],
    now: () => Date,
    hold: Hold,
  ): Promise<readonly Sending[]> {
    if (commands.length === 0) return [];
    const sendings = await this.careful.send(commands, now, hold);
    const unheard = commands.filter((_command, index) => sendings[index]?.kind === 'unheard');
    if (unheard.length === 0) return sendings;
    const heard = await this.heardAmong([...new Set(unheard.map(({ deviceId }) => deviceId))], hold);
    const again = unheard.filter(({ deviceId }) => heard.has(deviceId));
    if (again.length === 0) return sendings;
    const second = (await this.careful.send(again, now, hold)).values();
    return sendings.map((sending, index) => {
      if (sending.kind !== 'unheard' || !heard.has(commands[index]?.deviceId ?? '')) return sending;
      const { value } = second.next();
      return value === undefined || value.kind === 'unheard' ? TAKEN : value;
    });
  }
}

const TAKEN: Sending = { kind: 'taken' };
const UNSENT: Sending = { kind: 'unsent' };

/** Whether what follows in a device's queue may be sent. */
function goesOn(sending: Sending | undefined): boolean {
  return sending?.kind === 'taken' || sending?.kind === 'refused';
}
