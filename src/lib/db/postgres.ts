import pg from 'pg'
import { ConveyorError } from '../core/errors.ts'
import { explainPostgres, isTimeout } from './postgres-errors.ts'
import { PostgresListener } from './postgres-listener.ts'

export interface PostgresOptions {
  /** `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with pg's other settings (`?sslmode=...`). */
  url: string
  /** The most connections of this process for queries. Default 10. */
  connections?: number
  /**
   * Seconds after which a statement times out and its connection is dropped: when a server vanishes with its machine,
   * TCP alone would wait for a quarter of an hour. Default 60.
   */
  timeoutSeconds?: number
}

/** What every Postgres adapter accepts: a database to connect to, or a shared connection that its creator closes. */
export type PostgresSource = PostgresOptions | { postgres: Postgres }

/** Timeout for a new connection. */
const CONNECT_MS = 10_000
/**
 * The most connections that hold or wait for locks. They are apart from the others, so that the holder of a lock never
 * waits for a connection to query on, and more than any process has builds that publish at once.
 */
const LOCKS = 50

/**
 * A client that vanishes with its machine must not keep its locks for two hours, TCP's default; nor must a client that
 * hangs in a transaction keep the rows that it changed locked.
 */
const SESSION = `
  set tcp_keepalives_idle = 20; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 4;
  set idle_in_transaction_session_timeout = '60s'`

/**
 * The connections of one process to one database, shared by the adapters on it. They are opened on demand, and again
 * after an outage; errors are only ever thrown from a call.
 */
export class Postgres {
  /** `postgres://HOST:PORT/DATABASE`: without the login, for messages. */
  readonly where: string
  /** For queries. It throws pg's own errors: see `explain`. */
  readonly pool: pg.Pool
  /** Notifications from other processes. Its one connection is opened for the first listener. */
  readonly listener: PostgresListener
  readonly #locks: pg.Pool
  #closing: Promise<void> | undefined

  /** @throws ConveyorError `invalid` for an invalid URL, which the message does not show */
  constructor({ url, connections = 10, timeoutSeconds = 60 }: PostgresOptions) {
    this.where = withoutLogin(url)
    const common: pg.PoolConfig = {
      connectionString: url,
      application_name: 'conveyor',
      connectionTimeoutMillis: CONNECT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      idleTimeoutMillis: 30_000,
      // Idle connections must not keep the process alive.
      allowExitOnIdle: true,
    }
    // The server times out first if it can, so that nothing happens after a statement was reported as failed.
    const session = `${SESSION}; set statement_timeout = '${Math.floor(timeoutSeconds * 900)}ms'`
    const queries = { ...common, query_timeout: timeoutSeconds * 1000 }
    this.pool = survivor({ ...queries, max: connections }, session)
    // No timeout: locks are waited for.
    this.#locks = survivor({ ...common, max: LOCKS }, SESSION)
    this.listener = new PostgresListener({ ...queries, session }, (thrown) => this.explain(thrown))
  }

  /** Runs one statement. @throws ConveyorError */
  async query<Row>(statement: string | pg.QueryConfig, values?: unknown[]): Promise<Row[]> {
    return this.#query(this.pool, statement, values)
  }

  /**
   * The same on the listener's connection, if it is open: an idle process needs no other. For callers that run one
   * query at a time, with waits in between.
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
   * Runs `work` while no one else, in any process on this database, holds the lock of that name.
   * @throws what `work` throws; ConveyorError `unavailable` when the lock cannot be acquired, or was lost with its
   *   connection before the work was done
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

  /** Explains what pg threw. A ConveyorError is returned as it is. */
  explain(thrown: unknown): ConveyorError {
    return explainPostgres(thrown, this.where)
  }

  /** Waits for running queries, and closes every connection. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await this.listener.close()
    await Promise.all([this.pool.end(), this.#locks.end()])
  }
}

/** The database that an adapter uses, and how the adapter releases it. */
export function usePostgres(source: PostgresSource): { postgres: Postgres; release: () => Promise<void> } {
  if ('postgres' in source) return { postgres: source.postgres, release: async () => {} }
  const postgres = new Postgres(source)
  return { postgres, release: () => postgres.close() }
}

/** A pool whose connections may break at any time: then only the query that uses one fails. */
function survivor(config: pg.PoolConfig, session: string): pg.Pool {
  const pool = new pg.Pool({ ...config, onConnect: async (client) => void (await client.query(session)) })
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}

function withoutLogin(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : null
  if (parsed === null || !/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw new ConveyorError('invalid', 'the Postgres database URL is invalid', {
      hint: 'Use postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded',
    })
  }
  return `postgres://${parsed.host || (parsed.searchParams.get('host') ?? 'localhost')}${parsed.pathname}`
}
