import { Injectable } from '@nestjs/common';
import type { PoolClient } from 'pg';
import { UnitOfWork, type Transaction } from '#kernel';
import { Database } from './database.js';

/** Transactions on the ingest pool. */
@Injectable()
export class PgUnitOfWork extends UnitOfWork {
  constructor(private readonly database: Database) {
    super();
  }

  async run<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    const client = await this.database.ingestPool.connect();
    let broken: Error | undefined;
    // A connection that dies between two statements reports here; unheard, the event would end the process.
    const remember = (error: Error): void => {
      broken = error;
    };
    client.on('error', remember);
    try {
      await client.query('BEGIN');
      const result = await work(client as unknown as Transaction);
      await client.query('COMMIT');
      return result;
    } catch (error) {
      await client.query('ROLLBACK').catch(remember);
      throw error;
    } finally {
      client.off('error', remember);
      client.release(broken);
    }
  }
}

/** The connection behind a transaction of {@link PgUnitOfWork}: for adapters that speak SQL. */
export function clientOf(transaction: Transaction): PoolClient {
  return transaction as unknown as PoolClient;
}
