import { setTimeout as sleep } from 'node:timers/promises'
import { toConveyorError } from '../../core/errors.ts'
import type { Received, SqsApi } from './api.ts'
import { decodeMessage } from './message.ts'

export interface SqsDeadLettersOptions {
  queue: SqsApi
  queueArn: string
  /** The dead-letter queue. */
  dead: SqsApi
  /** How often it is looked into. */
  everySeconds: number
  log: (line: string) => void
}

/** How long a letter is kept from others who look, in seconds. */
const LEASE = 30
/** A look ends before it would see a letter for the second time. */
const LOOK_MS = 20_000

/**
 * The way back from the dead-letter queue. SQS counts how often a message was received, and moves it there; but
 * what that says of a build is little: workers were stopped, the database was away, an answer was lost. How
 * often a build was really begun is counted in the build store, and the worker that takes it up once too often
 * fails it, with its log and its commit status. So what can be read goes back to the queue, however small its
 * `maxReceiveCount` is, and what cannot be read stays, for a person to look at.
 */
export class SqsDeadLetters {
  readonly #options: SqsDeadLettersOptions
  readonly #closing = new AbortController()
  #looking: Promise<void> | null = null
  #failing = false

  constructor(options: SqsDeadLettersOptions) {
    this.#options = options
  }

  /** Looks now, and then again and again until it is closed. */
  start(): void {
    this.#looking ??= this.#loop()
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#looking
  }

  /** Keeps a message that nobody can read. */
  async keep({ body, id }: Received): Promise<void> {
    await this.#options.dead.send({ body, group: 'unreadable', once: id })
  }

  async #loop(): Promise<void> {
    const { everySeconds, log, dead } = this.#options
    const { signal } = this.#closing
    while (!signal.aborted) {
      try {
        await this.#look()
        this.#failing = false
      } catch (error) {
        // Once is enough. Aborted by close: nobody needs to know.
        if (!this.#failing && !signal.aborted) {
          log(`dead-letter queue ${dead.url}: ${toConveyorError(error, 'it cannot be read').advice}`)
        }
        this.#failing = true
      }
      await sleep(everySeconds * 1000, undefined, { signal, ref: false }).catch(() => {}) // aborted: the loop ends
    }
  }

  async #look(): Promise<void> {
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
    // Several queues may have the same dead-letter queue.
    if (letter.from !== undefined && letter.from !== queueArn) return
    const buildId = readableId(letter.body)
    if (buildId === null) return
    // Sent first: twice in the queue is better than not at all. It is another message than the build's first.
    await queue.send({ body: letter.body, group: buildId, once: letter.id })
    await dead.delete(letter.handle)
    log(`build ${buildId} was in the dead-letter queue: queued again`)
  }
}

function readableId(body: string): string | null {
  try {
    return decodeMessage(body).buildId
  } catch {
    return null // it was logged when it came, or is none of ours
  }
}
