declare const transactionBrand: unique symbol;

/** An open database transaction, opaque to everything but the adapters that write through it. */
export interface Transaction {
  readonly [transactionBrand]: true;
}

/** Runs work of several repositories, also of several modules, in one transaction. */
export abstract class UnitOfWork {
  /** Commits when `work` resolves, rolls back when it rejects, and passes its outcome on. */
  abstract run<T>(work: (transaction: Transaction) => Promise<T>): Promise<T>;
}
