import type { Kysely, RawBuilder, Transaction } from 'kysely'
import type { Schema } from './schema.ts'

/** What the databases do differently. */
export interface StoreDialect {
  /** Runs `work` in a transaction, durable when it resolves. May run it again when a first try failed. */
  write<T>(work: (trx: Transaction<Schema>) => Promise<T>): Promise<T>
  /** The same for work that begins by taking a sequence number, and so has to wait for others like it anyway. */
  writeInOrder<T>(work: (trx: Transaction<Schema>) => Promise<T>): Promise<T>
  /** Runs `work` while nobody else, in any process on this database, holds the lock of `imageName`. */
  lockImage<T>(imageName: string, work: () => Promise<T>): Promise<T>
  /**
   * The moment at which a statement runs, moved by so many seconds, as ISO 8601 text: by the clock of the database,
   * which is the same for all who share it. A process's own clock may be minutes off.
   */
  time(inSeconds?: number): RawBuilder<string>
  close(): Promise<void>
}

/** What moves of tags need: reads outside of a transaction, and durable writes. */
export interface TagDatabase extends Pick<StoreDialect, 'write'> {
  db: Kysely<Schema>
}
