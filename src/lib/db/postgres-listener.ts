import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { ConveyorError } from '../core/errors.ts'

/** Called with the payload of a notification; with null after a reconnect, when some may have been missed. */
export type Notified = (payload: string | null) => void

export interface ListenerConfig extends pg.ClientConfig {
  /** SQL to run on every new connection. */
  session: string
}

/** Waits between reconnection attempts, in milliseconds; the last one repeats. */
const RETRY_MS = [100, 500, 2_000, 5_000]

/**
 * The one connection of this process that LISTENs for what others NOTIFY. It is opened for the first listener, and
 * reopened whenever it breaks; listeners also poll now and then, so a lost notification only causes a delay.
 * It must be a session on the server itself: a pooler in transaction mode does not forward notifications.
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
   * Subscribes to a channel; notifications arrive from when it resolves.
   * @param channel a name that needs no quoting
   * @returns a function that unsubscribes
   * @throws ConveyorError when the first connection fails
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

  /** The connection, if it is open. */
  get connection(): pg.Client | undefined {
    return this.#client
  }

  /** Drops the connection, and opens a new one. */
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
    await client?.end().catch(() => {}) // already broken
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
      // Keeps many processes from reconnecting to a restarted server all at once.
      await sleep(wait * (0.5 + Math.random()), undefined, { signal }).catch(() => {})
      if (signal.aborted) return
      try {
        await this.#connect()
        tries = 0
        for (const listeners of this.#channels.values()) for (const notified of listeners) notified(null)
      } catch {
        // Callers get the reason from their own queries.
        tries += 1
      }
    }
  }
}
