/** The middle one; 0 of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/** A number to be read: rounded, with separators. */
export function whole(value: number): string {
  return Math.round(value).toLocaleString('en');
}

/** Prints a line. */
export function say(line = ''): void {
  process.stdout.write(`${line}\n`);
}
