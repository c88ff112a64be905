import { setTimeout as sleep } from 'node:timers/promises';
import { Service } from '../support/service.js';
import { FLEET, type Fleet, type Stage } from './stage.js';

/** One way for things to go wrong. */
export interface Scenario {
  readonly name: string;
  /** How often it happens in the quick set, which is part of `npm test`, and in the full one; 0: not at all. */
  readonly rounds: { readonly quick: number; readonly full: number };
  /** What is counted where it is not rounds. */
  readonly unit?: string;
  /** Cannot be lossless: what is lost is measured, not judged. */
  readonly measured?: true;
  /** Lets it happen while devices publish. @param random from 0 to below 1. */
  readonly run: (stage: Stage, rounds: number, random: () => number) => Promise<void>;
}

/** At a moment nobody can foresee: after some messages more. */
async function atRandom(stage: Stage, random: () => number, most = 1_200): Promise<void> {
  await stage.untilAcknowledged(1 + Math.floor(random() * most));
}

/** A fault that ends again, so many times, while the fleet publishes. */
function repeatedly(
  name: string,
  rounds: Scenario['rounds'],
  fault: (stage: Stage, random: () => number) => Promise<void>,
): Scenario {
  return {
    name,
    rounds,
    run: async (stage, count, random) => {
      await stage.startLoad();
      for (let round = 0; round < count; round += 1) {
        await atRandom(stage, random);
        await fault(stage, random);
        await stage.service.untilReady();
      }
      await stage.untilAcknowledged(200);
    },
  };
}

/** Messages of some kinds among good ones, until there are so many. */
function among(name: string, rounds: Scenario['rounds'], unit: string, fleet: Fleet): Scenario {
  return {
    name,
    rounds,
    unit,
    run: async (stage, count) => {
      await stage.startLoad([...FLEET, ...fleet]);
      await stage.untilAcknowledged(
        count,
        fleet.map(([kind]) => kind),
      );
    },
  };
}

async function readOnly(stage: Stage, on: boolean): Promise<void> {
  const { database } = stage;
  await database.query(
    `BEGIN READ WRITE;
     DO $$ BEGIN
       EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = ${on ? 'on' : 'off'}', current_database());
     END $$;
     COMMIT`,
  );
  await database.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'mqtt-service%'`,
  );
}

export const SCENARIOS: readonly Scenario[] = [
  repeatedly('service killed (SIGKILL)', { quick: 3, full: 20 }, async (stage, random) => {
    await stage.service.end('SIGKILL');
    await atRandom(stage, random, 500);
    await stage.service.launch();
  }),
  repeatedly('service stopped (SIGTERM)', { quick: 2, full: 10 }, async (stage, random) => {
    const code = await stage.service.end('SIGTERM');
    if (code !== 0) throw new Error(`The service ended with ${String(code)}`);
    await atRandom(stage, random, 500);
    await stage.service.launch();
  }),
  repeatedly('service stopped while both ways are silent', { quick: 1, full: 3 }, async (stage, random) => {
    stage.databaseWay.mute();
    stage.brokerWay.mute();
    await atRandom(stage, random, 500);
    const begun = performance.now();
    const code = await stage.service.end('SIGTERM');
    const took = Math.round(performance.now() - begun);
    // SHUTDOWN_TIMEOUT, and a second for a machine that has other things to do.
    if (code !== 0 || took > 9_000)
      throw new Error(`The service ended with ${String(code)} after ${took} ms`);
    for (const way of [stage.databaseWay, stage.brokerWay]) {
      await way.cut();
      await way.mend();
    }
    await stage.service.launch();
  }),
  repeatedly('PostgreSQL stopped (immediate)', { quick: 2, full: 10 }, async (stage, random) => {
    await stage.postgres.stop('immediate');
    await atRandom(stage, random, 500);
    await stage.postgres.start();
  }),
  {
    name: 'PostgreSQL away',
    rounds: { quick: 5, full: 60 },
    unit: 's',
    run: async (stage, seconds) => {
      await stage.startLoad();
      await stage.postgres.stop();
      await sleep(seconds * 1_000);
      await stage.postgres.start();
      await stage.service.untilReady();
    },
  },
  repeatedly('PostgreSQL away, service killed', { quick: 1, full: 5 }, async (stage, random) => {
    await stage.databaseWay.cut();
    await atRandom(stage, random, 500);
    await stage.service.end('SIGKILL');
    await stage.databaseWay.mend();
    await stage.service.launch();
  }),
  repeatedly('PostgreSQL read-only', { quick: 1, full: 5 }, async (stage) => {
    await readOnly(stage, true);
    await stage.untilAcknowledged(1_000);
    await readOnly(stage, false);
  }),
  repeatedly('way to PostgreSQL falls silent', { quick: 1, full: 5 }, async (stage, random) => {
    stage.databaseWay.mute();
    await atRandom(stage, random, 3_000);
    stage.databaseWay.unmute();
  }),
  repeatedly('way to PostgreSQL cut', { quick: 2, full: 10 }, async (stage, random) => {
    await stage.databaseWay.cut();
    await atRandom(stage, random, 500);
    await stage.databaseWay.mend();
  }),
  repeatedly('way to the broker falls silent', { quick: 0, full: 2 }, async (stage, random) => {
    stage.brokerWay.mute();
    await atRandom(stage, random, 3_000);
    stage.brokerWay.unmute();
  }),
  repeatedly('way to the broker cut', { quick: 2, full: 10 }, async (stage) => {
    await stage.brokerWay.cut();
    await stage.brokerWay.mend();
  }),
  {
    name: 'round trips of 200 ms, service killed',
    rounds: { quick: 1, full: 5 },
    run: async (stage, rounds, random) => {
      stage.databaseWay.delay = stage.brokerWay.delay = 100;
      try {
        await stage.startLoad();
        for (let round = 0; round < rounds; round += 1) {
          await stage.service.end('SIGKILL');
          await stage.service.launch();
          await atRandom(stage, random);
        }
      } finally {
        stage.databaseWay.delay = stage.brokerWay.delay = 0;
      }
    },
  },
  repeatedly('Mosquitto restarted (SIGTERM)', { quick: 2, full: 10 }, async ({ mosquitto }) => {
    await mosquitto.stop();
    await mosquitto.start();
  }),
  {
    name: 'Mosquitto forgets its sessions',
    rounds: { quick: 1, full: 3 },
    run: async (stage, rounds) => {
      for (let round = 0; round < rounds; round += 1) {
        // What it forgets with its sessions is lost there: nothing may wait at that moment.
        await stage.drained();
        await stage.mosquitto.stop();
        stage.mosquitto.forget();
        await stage.mosquitto.start();
        await stage.service.untilReady();
        await stage.untilListening();
      }
      await stage.startLoad();
      await stage.untilAcknowledged(500);
    },
  },
  {
    name: 'three replicas, the active one killed',
    rounds: { quick: 1, full: 5 },
    run: async (stage, rounds, random) => {
      stage.others.push(await Service.start(stage.env), await Service.start(stage.env));
      try {
        await stage.startLoad();
        for (let round = 0; round < rounds; round += 1) {
          await atRandom(stage, random);
          const active = await stage.active();
          await active.end('SIGKILL');
          await stage.active();
          await active.launch();
        }
        await stage.stopLoad();
        await stage.drained();
      } finally {
        await Promise.all(stage.others.splice(0).map((replica) => replica.remove()));
      }
    },
  },
  among('malformed messages among good ones', { quick: 4_000, full: 100_000 }, 'messages', [
    ['malformed', 1_500],
    ['malformed', 1_500],
  ]),
  among('messages delivered three times', { quick: 500, full: 10_000 }, 'messages', [['repeated', 400]]),
  among('clocks a day ahead and a day behind', { quick: 500, full: 10_000 }, 'messages', [['ahead', 400]]),
  {
    ...repeatedly('Mosquitto killed (SIGKILL)', { quick: 0, full: 10 }, async ({ mosquitto }) => {
      await mosquitto.stop('SIGKILL');
      await mosquitto.start();
    }),
    measured: true,
  },
];
