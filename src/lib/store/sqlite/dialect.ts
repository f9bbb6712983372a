import type { DatabaseSync, SQLInputValue } from 'node:sqlite'
import { SqliteAdapter, type SqliteDatabase, SqliteDialect, type SqliteStatement } from 'kysely'

/** More than the store's distinct statements; a bound only against callers that generate SQL. */
const CACHED_STATEMENTS = 200

/**
 * Kysely on node:sqlite. Kysely gives its one connection to one transaction or query at a time, so no query ends up in
 * another caller's transaction.
 * @param explain converts what SQLite throws into the error for the caller
 */
export class NodeSqliteDialect extends SqliteDialect {
  constructor(database: DatabaseSync, explain: (thrown: unknown) => Error) {
    super({ database: kyselyDatabase(database, explain) })
  }

  override createAdapter(): SqliteAdapter {
    return new TransactionalAdapter()
  }
}

/** SQLite rolls back schema changes like any others, so an interrupted migration leaves nothing behind. */
class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true
  }
}

function kyselyDatabase(database: DatabaseSync, explain: (thrown: unknown) => Error): SqliteDatabase {
  const statements = new Map<string, SqliteStatement>()

  function explained<T>(work: () => T): T {
    try {
      return work()
    } catch (thrown) {
      throw explain(thrown)
    }
  }

  function prepare(sql: string): SqliteStatement {
    const statement = database.prepare(sql)
    return {
      reader: statement.columns().length > 0,
      all: (parameters) => explained(() => statement.all(...(parameters as SQLInputValue[]))),
      run(parameters) {
        // On a full disk SQLite rolls back by itself; a second rollback would hide the real error.
        if (sql === 'rollback' && !database.isTransaction) return { changes: 0, lastInsertRowid: 0 }
        return explained(() => statement.run(...(parameters as SQLInputValue[])))
      },
      iterate: (parameters) => explained(() => statement.iterate(...(parameters as SQLInputValue[]))),
    }
  }

  return {
    prepare(sql) {
      const known = statements.get(sql)
      if (known) return known
      const statement = explained(() => prepare(sql))
      if (statements.size >= CACHED_STATEMENTS) statements.clear()
      statements.set(sql, statement)
      return statement
    },
    close() {
      statements.clear()
      if (database.isOpen) database.close()
    },
  }
}
