/** How many connections there are with each token. */
export class TokenSeats {
  private readonly taken = new Map<string, number>();

  /** @param perToken how many there may be. */
  constructor(private readonly perToken: number) {}

  /** @returns whether there was one left. */
  take(token: string): boolean {
    const taken = this.taken.get(token) ?? 0;
    if (taken >= this.perToken) return false;
    this.taken.set(token, taken + 1);
    return true;
  }

  /** @param token undefined: none was taken. */
  leave(token: string | undefined): void {
    if (token === undefined) return;
    const left = (this.taken.get(token) ?? 0) - 1;
    if (left > 0) this.taken.set(token, left);
    else this.taken.delete(token);
  }
}
