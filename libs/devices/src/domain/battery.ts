import type { LowBatteryNote, Presence } from './presence.js';

/** How many points a battery has to rise above the limit to count as charged: readings go up and down by a few. */
const RISE = 5;

/**
 * Judges the battery of a device: low below the limit, and from then on until it has risen 5 points above it (to 100, at
 * most).
 * @param limit percent; 0: none is low.
 * @returns the presence with that, and what is new where it has just become low.
 */
export function judgeBattery(
  presence: Presence,
  limit: number,
  at: Date,
): { readonly presence: Presence; readonly lowBattery: LowBatteryNote | null } {
  const { battery, memory } = presence;
  if (battery === null) return { presence, lowBattery: null };
  if (!memory.lowBattery && battery < limit) {
    // What arrives together is received in one millisecond.
    const since = Math.max(at.getTime(), (memory.lastLow ?? 0) + 1);
    const lowBattery = { since, percent: battery };
    const untoldLow = [...memory.untoldLow, lowBattery];
    return {
      presence: { ...presence, memory: { ...memory, lowBattery, lastLow: since, untoldLow } },
      lowBattery,
    };
  }
  if (memory.lowBattery && battery >= Math.min(100, limit + RISE))
    return { presence: { ...presence, memory: { ...memory, lowBattery: null } }, lowBattery: null };
  return { presence, lowBattery: null };
}
