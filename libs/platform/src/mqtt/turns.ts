/** A place in the order of {@link Turns}. */
export interface Turn {
  /** Resolves when everybody before has had theirs. */
  readonly come: Promise<void>;
  /** Lets the next one come. */
  pass(): void;
}

/** Lets those go first who came first, whoever is ready first. */
export class Turns {
  private last: Promise<void> = Promise.resolve();

  /** The next place; whoever takes it must {@link Turn.pass} it on. */
  take(): Turn {
    const come = this.last;
    let pass: () => void = () => undefined;
    this.last = new Promise<void>((resolve) => {
      pass = resolve;
    });
    return { come, pass };
  }
}
