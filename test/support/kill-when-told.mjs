// Preloaded into the service (`node --import`): with KILL_WHEN=stored it kills itself, as kill -9 would, when a batch of
// measurements is committed and nobody was told of it; with told, when its watchers were, and nothing is acknowledged. It
// waits for a batch in which the text of KILL_ON stands.
import 'reflect-metadata';
import { LiveFeed } from '../../dist/libs/telemetry/src/application/live-feed.js';

const { tell } = LiveFeed.prototype;
const { KILL_WHEN, KILL_ON } = process.env;

LiveFeed.prototype.tell = function killed(events) {
  if (!events.some(({ data }) => data.mark === KILL_ON)) return tell.call(this, events);
  if (KILL_WHEN === 'told') {
    tell.call(this, events);
    // What was written to the sockets is to leave the process.
    setImmediate(() => process.kill(process.pid, 'SIGKILL'));
  } else {
    process.kill(process.pid, 'SIGKILL');
  }
  return new Promise(() => undefined);
};
