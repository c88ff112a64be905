import { once } from 'node:events';
import { createServer } from 'node:net';

/** Below what systems hand out to outgoing connections (Linux 32768, IANA 49152), which could take a port meanwhile. */
const FIRST = 12_000;
/** Each worker of Jest has its own share, so that two never wait for the same server and take the other's for it. */
const SHARE = 2_500;
const SHARES = 8;

const first = FIRST + (Number(process.env['JEST_WORKER_ID'] ?? process.pid) % SHARES) * SHARE;
/** Begins anywhere: several runs on one machine have workers of the same number. */
let next = Math.floor(Math.random() * SHARE);

/** A TCP port on loopback that nobody listens on at the moment, and that this process does not give out again soon. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < SHARE; tries += 1) {
    const port = first + (next % SHARE);
    next += 1;
    if (await isFree(port)) return port;
  }
  throw new Error(`No free port from ${first} to ${first + SHARE - 1}.`);
}

async function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  try {
    await once(probe.listen(port, '127.0.0.1'), 'listening');
  } catch {
    return false;
  }
  probe.close();
  await once(probe, 'close');
  return true;
}
