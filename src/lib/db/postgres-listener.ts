import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { ConveyorError } from '../core/errors.ts'

/** Called with what was notified; with null when something may have been missed, as the connection broke. */
export type Notified = (payload: string | null) => void

export interface ListenerConfig extends pg.ClientConfig {
  /** SQL that every new connection begins with. */
  session: string
}

/** Waits between tries to connect again, the last one from then on. */
const RETRY_MS = [100, 500, 2_000, 5_000]

/**
 * One connection of the process that listens to what others NOTIFY. It is made when the first listens, and
 * again whenever it breaks; whoever listens also looks by itself now and then, and so needs no word of that.
 * It has to be a session of the server's own: a pooler in transaction mode passes no notifications on.
 */
export class PostgresListener {
  readonly #config: ListenerConfig
  readonly #explain: (thrown: unknown) => ConveyorError
  readonly #channels = new Map<string, Set<Notified>>()
  readonly #closed = new AbortController()
  #client: pg.Client | undefined
  /** Resolves when the connection of `#client` breaks. */
  #gone: Promise<void> = Promise.resolve()
  #first: Promise<void> | undefined
  #keeping: Promise<void> | undefined

  constructor(config: ListenerConfig, explain: (thrown: unknown) => ConveyorError) {
    this.#config = config
    this.#explain = explain
  }

  /**
   * Listens from when it resolves on; answers how to stop.
   * @param channel a name that needs no quotes
   * @throws ConveyorError when the first connection cannot be made
   */
  async listen(channel: string, notified: Notified): Promise<() => void> {
    const listeners = this.#channels.get(channel) ?? new Set()
    this.#channels.set(channel, listeners)
    listeners.add(notified)
    const stop = () => void listeners.delete(notified)
    try {
      this.#first ??= this.#connect()
      await this.#first
      this.#keeping ??= this.#keepConnected()
      await this.#client?.query(`listen ${channel}`)
      return stop
    } catch (thrown) {
      stop()
      if (!this.#keeping) this.#first = undefined
      throw this.#explain(thrown)
    }
  }

  /** The connection, while there is one. */
  get connection(): pg.Client | undefined {
    return this.#client
  }

  /** Gives the connection up, for a new one. */
  reconnect(): void {
    void this.#end()
  }

  async close(): Promise<void> {
    this.#closed.abort()
    await this.#end()
    await this.#keeping
  }

  async #end(): Promise<void> {
    const client = this.#client
    this.#client = undefined
    await client?.end().catch(() => {}) // broken already: nothing is left to close
  }

  async #connect(): Promise<void> {
    const client = new pg.Client(this.#config)
    const gone = Promise.withResolvers<void>()
    client.on('error', () => gone.resolve())
    client.on('end', () => gone.resolve())
    client.on('notification', ({ channel, payload }) => {
      for (const notified of this.#channels.get(channel) ?? []) notified(payload ?? '')
    })
    try {
      await client.connect()
      await client.query(this.#config.session)
      for (const channel of this.#channels.keys()) await client.query(`listen ${channel}`)
    } catch (error) {
      await client.end().catch(() => {})
      throw error
    }
    this.#client = client
    this.#gone = gone.promise
    if (this.#closed.signal.aborted) await this.#end()
  }

  async #keepConnected(): Promise<void> {
    const { signal } = this.#closed
    for (let tries = 0; ; ) {
      await this.#gone
      await this.#end()
      const wait = RETRY_MS[Math.min(tries, RETRY_MS.length - 1)] ?? 0
      // Many processes come back to a server that has just started: not all at the same time.
      await sleep(wait * (0.5 + Math.random()), undefined, { signal }).catch(() => {})
      if (signal.aborted) return
      try {
        await this.#connect()
        tries = 0
        for (const listeners of this.#channels.values()) for (const notified of listeners) notified(null)
      } catch {
        // Whoever needs the database now learns from its own query why it does not answer.
        tries += 1
      }
    }
  }
}
