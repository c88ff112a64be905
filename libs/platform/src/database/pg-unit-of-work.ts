import { Injectable } from '@nestjs/common';
import type { PoolClient } from 'pg';
import { UnitOfWork, type Transaction } from '#kernel';
import { Database } from './database.js';

/** Transactions on the ingest's connections. */
@Injectable()
export class PgUnitOfWork extends UnitOfWork {
  constructor(private readonly database: Database) {
    super();
  }

  async run<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    return this.database.ingest.lend(async (client) => {
      await client.query('BEGIN');
      try {
        const result = await work(client as unknown as Transaction);
        await client.query('COMMIT');
        return result;
      } catch (error) {
        // Where the connection is lost, the transaction is too.
        await client.query('ROLLBACK').catch(() => void client.end().catch(() => undefined));
        throw error;
      }
    });
  }
}

/** The connection behind a transaction of {@link PgUnitOfWork}: for adapters that speak SQL. */
export function clientOf(transaction: Transaction): PoolClient {
  return transaction as unknown as PoolClient;
}
