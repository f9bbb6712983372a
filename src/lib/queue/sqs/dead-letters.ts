import { setTimeout as sleep } from 'node:timers/promises'
import { toConveyorError } from '../../core/errors.ts'
import type { Received, SqsApi } from './api.ts'
import { decodeMessage } from './message.ts'

export interface SqsDeadLettersOptions {
  queue: SqsApi
  queueArn: string
  /** The dead-letter queue. */
  dead: SqsApi
  /** How often it is checked. */
  everySeconds: number
  log: (line: string) => void
}

/** How long a dead letter is hidden from other processes, in seconds. */
const LEASE = 30
/** A check ends before it could receive a dead letter for the second time. */
const LOOK_MS = 20_000

/**
 * Requeues builds from the dead-letter queue. SQS moves a message there once it was received too often, which says
 * little about its build: workers were stopped, the database was unreachable, a response was lost. The build store counts
 * how often a build was really started, and the worker that starts it once too often fails it, with its log and its
 * commit status. So messages that can be read go back to the queue, however small its `maxReceiveCount` is. Others stay
 * for someone to inspect.
 */
export class SqsDeadLetters {
  readonly #options: SqsDeadLettersOptions
  readonly #closing = new AbortController()
  #checking: Promise<void> | null = null
  #failing = false

  constructor(options: SqsDeadLettersOptions) {
    this.#options = options
  }

  /** Checks now, and then periodically until it is closed. */
  start(): void {
    this.#checking ??= this.#loop()
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#checking
  }

  /** Stores a message that cannot be read. */
  async keep({ body, id }: Received): Promise<void> {
    await this.#options.dead.send({ body, group: 'unreadable', once: id })
  }

  async #loop(): Promise<void> {
    const { everySeconds, log, dead } = this.#options
    const { signal } = this.#closing
    while (!signal.aborted) {
      try {
        await this.#check()
        this.#failing = false
      } catch (error) {
        // Logged once per outage. An abort by close is not an error.
        if (!this.#failing && !signal.aborted) {
          log(`dead-letter queue ${dead.url}: ${toConveyorError(error, 'cannot be read').advice}`)
        }
        this.#failing = true
      }
      await sleep(everySeconds * 1000, undefined, { signal, ref: false }).catch(() => {}) // aborted: the loop ends
    }
  }

  async #check(): Promise<void> {
    const { dead } = this.#options
    const { signal } = this.#closing
    const end = performance.now() + LOOK_MS
    while (performance.now() < end && !signal.aborted) {
      const letters = await dead.receive({ max: 10, waitSeconds: 0, leaseSeconds: LEASE, signal })
      if (letters.length === 0) return
      await Promise.all(letters.map((letter) => this.#bringBack(letter)))
    }
  }

  async #bringBack(letter: Received): Promise<void> {
    const { queue, queueArn, dead, log } = this.#options
    // Several queues may share a dead-letter queue.
    if (letter.from !== undefined && letter.from !== queueArn) return
    const buildId = readableId(letter.body)
    if (buildId === null) return
    // Sent before it is deleted: a duplicate is better than a loss. Deduplication does not apply: the name differs.
    await queue.send({ body: letter.body, group: buildId, once: letter.id })
    await dead.delete(letter.handle)
    log(`build ${buildId} was in the dead-letter queue; requeued`)
  }
}

function readableId(body: string): string | null {
  try {
    return decodeMessage(body).buildId
  } catch {
    return null // logged when it was received, or not from Conveyor
  }
}
