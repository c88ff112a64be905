// Preloaded into the service (`node --import`): it kills itself, as kill -9 would, at the first command, or change of
// presence, that reaches the place named in KILL_AT. The service itself knows nothing of it.
import 'reflect-metadata';
import { TypeormCommandRepository } from '../../dist/libs/commands/src/adapters/typeorm-command.repository.js';
import { PgPresenceRepository } from '../../dist/libs/devices/src/adapters/pg-presence.repository.js';
import { EventBus } from '../../dist/libs/kernel/src/event-bus.js';
import { PublishLane } from '../../dist/libs/platform/src/mqtt/publish-lane.js';

const die = () => {
  process.kill(process.pid, 'SIGKILL');
  // The signal may take a moment, in which nothing may happen any more.
  return new Promise(() => undefined);
};
const { insert } = TypeormCommandRepository.prototype;
const { publishEach } = PublishLane.prototype;
const { update } = PgPresenceRepository.prototype;
const { publish } = EventBus.prototype;

const PLACES = {
  stored: () => {
    // As an order that has to wait for others is: not taken up.
    TypeormCommandRepository.prototype.insert = async function killed(command) {
      await insert.call(this, command, null);
      return die();
    };
  },
  claimed: () => {
    PublishLane.prototype.publishEach = die;
  },
  published: () => {
    PublishLane.prototype.publishEach = async function killed(messages) {
      await publishEach.call(this, messages);
      return die();
    };
  },
  'presence committed': () => {
    PgPresenceRepository.prototype.update = async function killed(...decision) {
      const news = await update.apply(this, decision);
      return news.changes.length > 0 ? die() : news;
    };
  },
};

const place = process.env.KILL_AT ?? '';
const [, untold] = /^before (command\.[a-z]+)$/.exec(place) ?? [];
if (untold) {
  EventBus.prototype.publish = function killed(events, ...rest) {
    return events.some(({ type }) => type === untold) ? die() : publish.call(this, events, ...rest);
  };
} else if (Object.hasOwn(PLACES, place)) {
  PLACES[place]();
} else {
  throw new Error(`KILL_AT is none of ${Object.keys(PLACES).join(', ')}, and before which event`);
}
