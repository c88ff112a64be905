// Preloaded into the service (`node --import`): it kills itself, as kill -9 would, at the first command, or change of
// presence, that reaches the place named in KILL_AT. The service itself knows nothing of it.
import 'reflect-metadata';
import { TypeormCommandRepository } from '../../dist/libs/commands/src/adapters/typeorm-command.repository.js';
import { PgPresenceRepository } from '../../dist/libs/devices/src/adapters/pg-presence.repository.js';
import { PublishLane } from '../../dist/libs/platform/src/mqtt/publish-lane.js';

const die = () => {
  process.kill(process.pid, 'SIGKILL');
  // The signal may take a moment, in which nothing may happen any more.
  return new Promise(() => undefined);
};
const { insert } = TypeormCommandRepository.prototype;
const { publishEach } = PublishLane.prototype;
const { update } = PgPresenceRepository.prototype;

switch (process.env.KILL_AT) {
  case 'stored':
    TypeormCommandRepository.prototype.insert = async function killed(command) {
      await insert.call(this, command);
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
  case 'presence committed':
    PgPresenceRepository.prototype.update = async function killed(...decision) {
      const news = await update.apply(this, decision);
      return news.changes.length > 0 ? die() : news;
    };
    break;
  default:
    throw new Error('KILL_AT is none of stored, claimed, published, presence committed');
}
