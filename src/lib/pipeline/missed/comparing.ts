import { randomUUID } from 'node:crypto'
import { notAllowed } from '../../core/allowed-repositories.ts'
import { toConveyorError } from '../../core/errors.ts'
import { logFirst } from '../../core/log.ts'
import type { HeadComparison } from '../../store/comparisons.ts'
import { mapConcurrently } from '../../util/collections/map-concurrently.ts'
import { Periodic } from '../../util/periodic.ts'
import { type CompareParts, compareHeads, WEBHOOK_WAIT_S } from './compare-heads.ts'

const LEASE = 'comparing heads'
const LEASE_S = 30
/** How often the lease is asked for; it is extended once half of it is over. */
const RENEW_MS = 5000
/** How often due comparisons are looked for. */
const LOOK_MS = 1000
/** Repositories that are compared at a time. */
const AT_ONCE = 4
/** Due comparisons that are read at a time. */
const PAGE = 20
/** For repositories without a build in 30 days. */
const INACTIVE_S = 60 * 60
/** After an error: of the network, and another one, as wrong credentials. */
const RETRY_S = 60
const RETRY_LATER_S = 600

export interface ComparingParts extends CompareParts {
  isAllowed: (repository: string) => boolean
  /** How often active repositories are compared, in seconds. */
  intervalS: number
}

/**
 * Compares the heads of all repositories with their builds: at first at once, then every so often. Of several servers on
 * one store, one does it.
 */
export class Comparing {
  readonly #parts: ComparingParts
  readonly #holder = randomUUID()
  readonly #end = new AbortController()
  readonly #renewal: Periodic
  readonly #work: Periodic
  /** Until when this process has the lease, on the monotonic clock. */
  #heldUntil = 0
  /** Repositories that were compared since this process got the lease. */
  #compared = new Set<string>()
  /** The last error of each repository, so that it is logged once. */
  readonly #errors = new Map<string, string>()

  constructor(parts: ComparingParts) {
    this.#parts = parts
    const failed = logFirst(parts.log, 'comparing branches', { level: 'warn' })
    const report = (error: unknown, isNews: boolean) => failed(error, isNews && !this.#end.signal.aborted)
    this.#renewal = new Periodic(RENEW_MS, () => this.#renew(), report)
    this.#work = new Periodic(LOOK_MS, () => this.#compareDue(), report)
    void this.#renewal.run().then(() => this.#work.run())
  }

  /** Ends what is being compared; another server goes on. */
  async stop(): Promise<void> {
    this.#end.abort()
    await Promise.all([this.#renewal.stop(), this.#work.stop()])
    if (!this.#isHeld) return
    // It ends soon anyway.
    await this.#parts.store.leases.drop(LEASE, this.#holder).catch(() => {})
  }

  get #isHeld(): boolean {
    return performance.now() < this.#heldUntil
  }

  async #renew(): Promise<void> {
    const { leases, comparisons } = this.#parts.store
    const asked = performance.now()
    if (this.#heldUntil - asked > (LEASE_S * 1000) / 2) return
    if (!(await leases.take(LEASE, this.#holder, LEASE_S))) {
      this.#heldUntil = 0
      return
    }
    if (!this.#isHeld) {
      // Webhooks to a server that is down are lost: nothing is worth waiting for.
      this.#compared = new Set()
      await comparisons.restart()
    }
    this.#heldUntil = asked + LEASE_S * 1000
  }

  async #compareDue(): Promise<void> {
    while (this.#isHeld && !this.#end.signal.aborted) {
      const due = await this.#parts.store.comparisons.due(PAGE)
      if (due.length === 0) return
      await mapConcurrently(due, AT_ONCE, (comparison) => this.#compare(comparison))
    }
  }

  async #compare(comparison: HeadComparison): Promise<void> {
    const { store, isAllowed, intervalS } = this.#parts
    const { repository, isActive } = comparison
    const { signal } = this.#end
    if (signal.aborted || !this.#isHeld) return
    if (!isAllowed(repository)) {
      await store.comparisons.failed(repository, notAllowed(repository), INACTIVE_S)
      return
    }
    const isFirst = !this.#compared.has(repository)
    try {
      await compareHeads(comparison, this.#parts, {
        waitS: isFirst ? 0 : WEBHOOK_WAIT_S,
        intervalS: isActive ? intervalS : Math.max(intervalS, INACTIVE_S),
        signal,
      })
      this.#compared.add(repository)
      this.#errors.delete(repository)
    } catch (thrown) {
      if (signal.aborted) return
      await this.#failed(repository, thrown)
    }
  }

  async #failed(repository: string, thrown: unknown): Promise<void> {
    const { store, log } = this.#parts
    const error = toConveyorError(thrown, `comparing the branches of ${repository} failed`)
    if (this.#errors.get(repository) !== error.message) log(error.advice, { repository, level: 'warn' })
    this.#errors.set(repository, error.message)
    await store.comparisons.failed(repository, error.message, error.retryable ? RETRY_S : RETRY_LATER_S)
  }
}
