/** The readings of one calendar month, UTC. */
export interface MonthPartition {
  /** Such as `device_readings_2026_11`. */
  readonly name: string;
  /** ISO 8601; the month's first moment. */
  readonly from: string;
  /** ISO 8601; the next month's first moment, which is not of it. */
  readonly to: string;
}

/** The month before this one, for what arrives late, to the second after it, so that one can be made in time. */
const MADE = [-1, 0, 1, 2];

const NAME = /^device_readings_(\d{4})_(0[1-9]|1[0-2])$/;

/**
 * The partitions that should be there.
 * @param cutoff what is older is to be deleted; null: nothing is.
 * @returns oldest first, and none that {@link expiredPartitions} would drop.
 */
export function partitionsAhead(now: Date, cutoff: Date | null): readonly MonthPartition[] {
  return MADE.map((offset) => monthPartition(now.getUTCFullYear(), now.getUTCMonth() + offset)).filter(
    (partition) => !isExpired(partition, cutoff),
  );
}

/**
 * Of the tables named, the monthly partitions that hold nothing but what is older than the cutoff.
 * Names of another form are somebody else's, or the default partition's, and never returned.
 * @returns names, oldest first.
 */
export function expiredPartitions(names: readonly string[], cutoff: Date): readonly string[] {
  return names
    .filter((name) => {
      const partition = parsePartitionName(name);
      return partition !== null && isExpired(partition, cutoff);
    })
    .sort();
}

/** @returns the partition that has this name; null when it is no monthly partition's. */
export function parsePartitionName(name: string): MonthPartition | null {
  const match = NAME.exec(name);
  return match && monthPartition(Number(match[1]), Number(match[2]) - 1);
}

function isExpired({ to }: MonthPartition, cutoff: Date | null): boolean {
  return cutoff !== null && Date.parse(to) <= cutoff.getTime();
}

/** @param month from 0; one outside 0 to 11 is of the year before or after. */
function monthPartition(year: number, month: number): MonthPartition {
  const from = firstOf(year, month).toISOString();
  return {
    name: `device_readings_${from.slice(0, 4)}_${from.slice(5, 7)}`,
    from,
    to: firstOf(year, month + 1).toISOString(),
  };
}

function firstOf(year: number, month: number): Date {
  const first = new Date(0);
  // Date.UTC would take the years 0 to 99 for 1900 to 1999.
  first.setUTCFullYear(year, month, 1);
  return first;
}
