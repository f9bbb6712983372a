import pg from 'pg'
import { ConveyorError } from '../core/errors.ts'
import { explainPostgres, isTimeout } from './postgres-errors.ts'
import { PostgresListener } from './postgres-listener.ts'

export interface PostgresOptions {
  /** `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with pg's further settings (`?sslmode=...`). */
  url: string
  /** How many connections the process may have for queries. Default 10. */
  connections?: number
  /**
   * Seconds after which a statement without an answer has failed, and its connection is given up: a server
   * that vanishes with its machine says nothing, and TCP waits a quarter of an hour. Default 60.
   */
  timeoutSeconds?: number
}

/** What every adapter on Postgres accepts: a database of its own, or one that its maker closes. */
export type PostgresSource = PostgresOptions | { postgres: Postgres }

/** How long a new connection may take. */
const CONNECT_MS = 10_000
/**
 * Connections that hold locks or wait for one, at most. Apart from the others, so that who has a lock never
 * waits for a connection to query on; and more than any process has builds that publish at the same time.
 */
const LOCKS = 50

/**
 * A client that vanishes with its machine must not keep its locks for the two hours that are TCP's default;
 * nor one that hangs in a transaction the rows that it changed.
 */
const SESSION = `
  set tcp_keepalives_idle = 20; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 4;
  set idle_in_transaction_session_timeout = '60s'`

/**
 * One process's connections to one database, shared by the adapters on it. Connections are made when they
 * are needed, and again after the server was away; nothing here throws outside of a call.
 */
export class Postgres {
  /** `postgres://HOST:PORT/DATABASE`: without the login, for messages. */
  readonly where: string
  /** For queries. Errors are pg's own: see `explain`. */
  readonly pool: pg.Pool
  /** What other processes notify. Its one connection is made when somebody listens. */
  readonly listener: PostgresListener
  readonly #locks: pg.Pool
  #closing: Promise<void> | undefined

  /** @throws ConveyorError `invalid` when the URL is none; the message does not show it. */
  constructor({ url, connections = 10, timeoutSeconds = 60 }: PostgresOptions) {
    this.where = withoutLogin(url)
    const common: pg.PoolConfig = {
      connectionString: url,
      application_name: 'conveyor',
      connectionTimeoutMillis: CONNECT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      idleTimeoutMillis: 30_000,
      // Kept for the next query, which is no reason to keep the process.
      allowExitOnIdle: true,
    }
    // The server gives up first where it can, so that nothing is done after it was said to have failed.
    const session = `${SESSION}; set statement_timeout = '${Math.floor(timeoutSeconds * 900)}ms'`
    const queries = { ...common, query_timeout: timeoutSeconds * 1000 }
    this.pool = survivor({ ...queries, max: connections }, session)
    // A lock is waited for as long as it takes.
    this.#locks = survivor({ ...common, max: LOCKS }, SESSION)
    this.listener = new PostgresListener({ ...queries, session }, (thrown) => this.explain(thrown))
  }

  /** Runs one statement. @throws ConveyorError */
  async query<Row>(statement: string | pg.QueryConfig, values?: unknown[]): Promise<Row[]> {
    return this.#query(this.pool, statement, values)
  }

  /**
   * The same on the connection that listens, while there is one: a process that only waits needs no other. For
   * a caller that asks one question after another, and waits between.
   */
  async queryWhileWaiting<Row>(statement: string | pg.QueryConfig, values?: unknown[]): Promise<Row[]> {
    const { connection } = this.listener
    if (!connection) return this.query(statement, values)
    try {
      return await this.#query(connection, statement, values)
    } catch (error) {
      if (isTimeout(error)) this.listener.reconnect()
      throw error
    }
  }

  async #query<Row>(
    on: pg.Pool | pg.Client,
    statement: string | pg.QueryConfig,
    values?: unknown[],
  ): Promise<Row[]> {
    try {
      const { rows } = await on.query(statement as string, values)
      return rows as Row[]
    } catch (thrown) {
      throw this.explain(thrown)
    }
  }

  /**
   * Runs `work` while nobody else, in any process on this database, holds the lock of that name.
   * @throws what `work` throws; ConveyorError `unavailable` when the lock cannot be had, or was lost with
   *   its connection before the work was done.
   */
  async withLock<T>(name: string, work: () => Promise<T>): Promise<T> {
    const client = await this.#locks.connect().catch((thrown) => {
      throw this.explain(thrown)
    })
    let lost: unknown
    try {
      await client.query('select pg_advisory_lock(hashtextextended($1, 0))', [name]).catch((thrown) => {
        lost = thrown
        throw this.explain(thrown)
      })
      const result = await work().finally(() =>
        client.query('select pg_advisory_unlock(hashtextextended($1, 0))', [name]).catch((thrown) => {
          lost = thrown
        }),
      )
      if (lost) throw this.explain(lost)
      return result
    } finally {
      client.release(lost !== undefined)
    }
  }

  /** What pg threw, for people. What is a ConveyorError already stays as it is. */
  explain(thrown: unknown): ConveyorError {
    return explainPostgres(thrown, this.where)
  }

  /** Waits for the queries that run, and closes every connection. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await this.listener.close()
    await Promise.all([this.pool.end(), this.#locks.end()])
  }
}

/** The database that an adapter uses, and how the adapter lets go of it. */
export function usePostgres(source: PostgresSource): { postgres: Postgres; release: () => Promise<void> } {
  if ('postgres' in source) return { postgres: source.postgres, release: async () => {} }
  const postgres = new Postgres(source)
  return { postgres, release: () => postgres.close() }
}

/** A pool whose connections may break at any time: whoever uses one then learns it from its query. */
function survivor(config: pg.PoolConfig, session: string): pg.Pool {
  const pool = new pg.Pool({ ...config, onConnect: async (client) => void (await client.query(session)) })
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}

function withoutLogin(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : null
  if (parsed === null || !/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw new ConveyorError('invalid', 'the address of the Postgres database is not a URL of one', {
      hint: 'Give postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded',
    })
  }
  return `postgres://${parsed.host || (parsed.searchParams.get('host') ?? 'localhost')}${parsed.pathname}`
}
