// Preloaded into the service (`node --import`): it kills itself, as kill -9 would, at the first command that reaches the
// place named in KILL_AT. The dispatch itself knows nothing of it.
import 'reflect-metadata';
import { TypeormCommandRepository } from '../../dist/libs/commands/src/adapters/typeorm-command.repository.js';
import { EventBus } from '../../dist/libs/kernel/src/event-bus.js';
import { PublishLane } from '../../dist/libs/platform/src/mqtt/publish-lane.js';

const die = () => {
  process.kill(process.pid, 'SIGKILL');
  // The signal may take a moment, in which nothing may happen any more.
  return new Promise(() => undefined);
};
const { insert } = TypeormCommandRepository.prototype;
const { publishEach } = PublishLane.prototype;
const { publish } = EventBus.prototype;
const [, untold] = /^before (command\.[a-z]+)$/.exec(process.env.KILL_AT) ?? [];

if (untold) {
  EventBus.prototype.publish = function killed(events, ...rest) {
    return events.some(({ type }) => type === untold) ? die() : publish.call(this, events, ...rest);
  };
} else
  switch (process.env.KILL_AT) {
    case 'stored':
      // As an order that has to wait for others is: not taken up.
      TypeormCommandRepository.prototype.insert = async function killed(command) {
        await insert.call(this, command, null);
        return die();
      };
      break;
    case 'claimed':
      PublishLane.prototype.publishEach = die;
      break;
    case 'published':
      PublishLane.prototype.publishEach = async function killed(messages) {
        await publishEach.call(this, messages);
        return die();
      };
      break;
    default:
      throw new Error('KILL_AT is none of stored, claimed, published, and before which event');
  }
