import type { Dispatcher } from 'undici'
import { shortName } from '../core/build.ts'
import { toConveyorError } from '../core/errors.ts'
import { about, type Log } from '../core/log.ts'
import type { BuildStore } from '../store/build-store.ts'
import type { Notification, TryResult } from '../store/notifications.ts'
import { Semaphore } from '../util/locks/semaphore.ts'
import { type EndedBuild, MOST_TAGS, notificationsFor, payloadOf } from './payload.ts'
import { type Posted, post } from './post.ts'
import { signatureHeaders } from './sign.ts'
import type { NotifyTarget } from './target.ts'

export interface NotifierOptions {
  store: Pick<BuildStore, 'get' | 'artifactOf' | 'commitsOf' | 'notifications'>
  /** Whom the builds of a repository notify. */
  targets: (repository: string) => NotifyTarget[]
  /** Public base URL of the server. */
  baseUrl: () => string
  /** Connections to targets; closed by the caller. */
  dispatcher: Dispatcher
  log: Log
  /** Waits between the tries, in seconds; one try more than there are waits. */
  delays?: readonly number[]
  /** Longest time for a try, in milliseconds; 10 s by default. */
  timeoutMs?: number
}

const TIMEOUT_MS = 10_000

/** Five tries in 71 minutes: receivers may be deployed meanwhile. */
const RETRY_DELAYS_S = [10, 60, 600, 3600]
/** The longest wait that a receiver is granted, in seconds. */
const LONGEST_WAIT_S = 3600
/** Builds whose notifications are made between two looks at what is due. */
const PAGE = 100
/** Tries at the same time, of one target and of all. A target that does not answer holds up no other. */
const OF_TARGET = 4
const OF_ALL = 64

/** Makes and sends the notifications of builds that have ended: see BuildStore.notifications. */
export class Notifier {
  readonly #options: NotifierOptions
  readonly #delays: readonly number[]
  readonly #room = new Semaphore(OF_ALL)
  readonly #lanes = new Map<string, Promise<void>>()
  #closing = false

  constructor(options: NotifierOptions) {
    this.#options = options
    this.#delays = options.delays ?? RETRY_DELAYS_S
  }

  /** Makes the notifications that are missing, and begins to send those that are due. @throws what the store throws */
  async run(): Promise<void> {
    const { notifications } = this.#options.store
    for (;;) {
      const ended = await notifications.ended(PAGE)
      for (const id of ended) await this.#make(id)
      if (ended.length < PAGE || this.#closing) break
    }
    for (const target of await notifications.dueTargets()) this.#send(target)
  }

  /** Resolves once nothing is being sent: after ten seconds at most, plus what the store takes. */
  async close(): Promise<void> {
    this.#closing = true
    await Promise.all(this.#lanes.values())
  }

  async #make(buildId: string): Promise<void> {
    const { store, targets, log } = this.#options
    const build = await store.get(buildId)
    const wanted = build ? targets(build.repository) : []
    // Docker Hub's format cannot say that an image is a fork's: what deploys it must not hear of it.
    const pushes = wanted.length > 0 && !build?.fork
    const artifact = pushes ? await store.artifactOf(buildId) : null
    const { notifications, leftOut } = notificationsFor(artifact, wanted)
    if (build && leftOut > 0) {
      const line = `webhooks for ${shortName(build)} leave out ${leftOut} of its tags: a URL gets ${MOST_TAGS} at most`
      log(line, { ...about(build), level: 'warn' })
    }
    await store.notifications.make(buildId, notifications, this.#delays.length + 1)
  }

  /** Sends what is due for a target, unless that is being done. */
  #send(target: string): void {
    if (this.#lanes.has(target) || this.#closing) return
    const lane = async () => {
      for (;;) {
        const more = await this.#room.run(async () => {
          const claimed = this.#closing ? null : await this.#options.store.notifications.claim(target)
          if (claimed) await this.#try(claimed)
          return claimed !== null
        })
        if (!more) return
      }
    }
    const sending = async () => {
      for (const ended of await Promise.allSettled(Array.from({ length: OF_TARGET }, lane))) {
        if (ended.status === 'fulfilled') continue
        // The store does not answer: they stay due.
        const { advice } = toConveyorError(ended.reason, 'failed')
        this.#options.log(`sending webhooks: ${advice}`, { level: 'warn' })
      }
      this.#lanes.delete(target)
    }
    this.#lanes.set(target, sending())
  }

  async #try(notification: Notification): Promise<void> {
    const { store, log } = this.#options
    const ended = await this.#ended(notification.buildId)
    const posted = ended ? await this.#post(notification, ended) : gone('its build is gone')
    const result = this.#result(notification, posted)
    await store.notifications.settle(notification, result)
    if (!ended || posted.error === null || result.retryInS !== undefined) return
    const { build } = ended
    const tries = notification.attempts === 1 ? 'one try' : `${notification.attempts} tries`
    const line = `webhook about ${shortName(build)} to ${notification.origin} failed after ${tries}: ${posted.error}`
    log(line, { ...about(build), level: 'warn' })
  }

  async #ended(buildId: string): Promise<EndedBuild | null> {
    const { store } = this.#options
    const build = await store.get(buildId)
    if (!build) return null
    const artifact = await store.artifactOf(buildId)
    return { build, artifact, shas: artifact ? await store.commitsOf(artifact.image) : [] }
  }

  async #post(notification: Notification, ended: EndedBuild): Promise<Posted> {
    const { targets, baseUrl, dispatcher, timeoutMs = TIMEOUT_MS } = this.#options
    const target = targets(ended.build.repository).find(({ key }) => key === notification.target)
    if (!target) return gone('--notify.url (NOTIFY_URL) no longer has this URL')
    const sentAt = new Date()
    const body = JSON.stringify(payloadOf(notification, ended, { baseUrl: baseUrl(), sentAt }))
    const headers = {
      'x-conveyor-event': notification.format === 'conveyor' ? 'build_ended' : 'image_pushed',
      'x-conveyor-delivery': notification.id,
      ...(target.secret !== null && signatureHeaders(target.secret, body, sentAt)),
    }
    return post(target.url, body, { headers, dispatcher, timeoutMs })
  }

  #result({ triesLeft }: Notification, posted: Posted): TryResult {
    const { status, answer, error, tookMs, retryAfterMs = 0, isFinal } = posted
    const delay = this.#delays.at(-triesLeft)
    const again = error !== null && !isFinal && triesLeft > 0 && delay !== undefined
    return {
      ...{ status, answer, error, tookMs },
      ...(again && { retryInS: Math.max(delay, Math.min(Math.ceil(retryAfterMs / 1000), LONGEST_WAIT_S)) }),
    }
  }
}

function gone(error: string): Posted {
  return { status: null, answer: null, error, tookMs: 0, isFinal: true }
}
