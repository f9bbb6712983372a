import type { Kysely, RawBuilder, Transaction } from 'kysely'
import type { Schema } from './schema.ts'

/** What differs between databases. */
export interface StoreDialect {
  /** Runs `work` in a transaction, durable when it resolves. May run it again after a failure. */
  write<T>(work: (trx: Transaction<Schema>) => Promise<T>): Promise<T>
  /** The same for work that first takes a sequence number, and so is serialized anyway. */
  writeInOrder<T>(work: (trx: Transaction<Schema>) => Promise<T>): Promise<T>
  /** Runs `work` while no one else, in any process on this database, holds the lock of `imageName`. */
  lockImage<T>(imageName: string, work: () => Promise<T>): Promise<T>
  /**
   * The time at which a statement runs, plus so many seconds, as ISO 8601 text: by the clock of the database, which all
   * processes share. A process's own clock may be minutes off.
   */
  time(inSeconds?: number): RawBuilder<string>
  close(): Promise<void>
}

/** For moving tags: reads outside of a transaction, and durable writes. */
export interface TagDatabase extends Pick<StoreDialect, 'write'> {
  db: Kysely<Schema>
}
