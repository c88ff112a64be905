import { setTimeout as sleep } from 'node:timers/promises';

type Falsy = false | 0 | '' | null | undefined;

const POLL_MS = 20;

/**
 * Awaits a condition.
 * @param probe returns something truthy once it holds; a rejection counts as not yet.
 * @returns what the probe returned.
 * @throws Error naming the condition after `timeoutMs`.
 */
export async function until<T>(
  what: string,
  probe: () => T | Promise<T>,
  timeoutMs = 45_000,
): Promise<Exclude<T, Falsy>> {
  const deadline = Date.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const result = await probe();
      if (result) return result as Exclude<T, Falsy>;
      last = result;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline)
      throw new Error(`Waited ${timeoutMs} ms for ${what}; last seen: ${String(last)}`);
    await sleep(POLL_MS);
  }
}
