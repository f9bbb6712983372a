import { keepNewest } from '../../util/collections/keep-newest.ts'

/** GitHub asks for a second between writes: https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api */
const WRITE_EVERY_MS = 1000
/** For how long after a secondary limit. */
const CAREFUL_MS = 10 * 60_000
/** Accounts that are remembered; the one whose limit was reached longest ago is forgotten first. */
const MOST_ACCOUNTS = 1000

interface Limits {
  /** No requests before. */
  blockedUntil: number
  /** Writes are a second apart until then. */
  carefulUntil: number
  /** When the next write may be sent, if writes are apart. */
  nextWrite: number
}

/**
 * Keeps to GitHub's rate limits, which count for an account: a personal token, or an installation of an App. Once one
 * is reached, no request of the account is sent before its end, since GitHub bans clients that go on; and after a
 * secondary limit, writes are a second apart for ten minutes. Times are in milliseconds since 1970.
 */
export class Pacing {
  readonly #limits = new Map<string, Limits>()
  readonly #now: () => number

  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  /** GitHub has refused a request, and wants no other for `waitMs`. */
  limited(account: string, waitMs: number, isSecondary: boolean): void {
    const now = this.#now()
    const before = this.#limits.get(account)
    const blockedUntil = Math.max(before?.blockedUntil ?? 0, now + waitMs)
    const carefulUntil = isSecondary ? blockedUntil + CAREFUL_MS : (before?.carefulUntil ?? 0)
    keepNewest(
      this.#limits,
      account,
      { blockedUntil, carefulUntil, nextWrite: before?.nextWrite ?? 0 },
      MOST_ACCOUNTS,
    )
  }

  /** How long no request may be sent, in milliseconds. */
  blockedMs(account: string): number {
    return Math.max(0, (this.#limits.get(account)?.blockedUntil ?? 0) - this.#now())
  }

  /** Takes the next turn of a write. @returns how long to wait for it, in milliseconds; null if that is over `longestMs` */
  write(account: string, longestMs: number): number | null {
    const limits = this.#limits.get(account)
    const now = this.#now()
    if (!limits || limits.carefulUntil <= now) return 0
    const turn = Math.max(now, limits.nextWrite)
    if (turn - now > longestMs) return null
    limits.nextWrite = turn + WRITE_EVERY_MS
    return turn - now
  }
}
