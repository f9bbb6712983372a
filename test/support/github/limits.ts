import { type Answer, problem, type RecordedRequest } from './protocol.ts'

/** Rate limits of each token. https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api */
export interface Limits {
  /** So many requests until `resetAt`, in seconds since 1970. */
  primary?: { requests: number; resetAt: number }
  /** So many writes a second; then none for `retryAfter` seconds. */
  secondary?: { writes: number; retryAfter: number }
}

/** Rate limit headers of the responses about the token. */
export const RATE = { 'x-ratelimit-limit': '5000', 'x-ratelimit-remaining': '4987' }

interface Use {
  requests: number
  /** When there were writes, in milliseconds since 1970. */
  writes: number[]
  blockedUntil: number
  /** The request that was refused first may have had others in flight. */
  inFlightUntil: number
}

/** Requests that were sent before a refusal arrived: less than Conveyor's shortest wait, which is a second. */
const IN_FLIGHT_MS = 750

export class RateLimits {
  #limits: Limits | null = null
  readonly #uses = new Map<string, Use>()
  readonly #violations: string[]

  constructor(violations: string[]) {
    this.#violations = violations
  }

  set(limits: Limits | null): void {
    this.#limits = limits
    this.#uses.clear()
  }

  /** Counts a request, and refuses it if that is too many. Going on after a refusal is a violation. */
  refuse(request: RecordedRequest): Answer | null {
    if (this.#limits === null) return null
    const { primary, secondary } = this.#limits
    const now = Date.now()
    const use = this.#use(request)
    use.requests += 1
    if (now < use.blockedUntil) {
      if (now > use.inFlightUntil) {
        this.#violations.push(`${request.method} ${request.path}: sent while requests were limited`)
      }
      return this.#refusal((use.blockedUntil - now) / 1000)
    }
    if (primary && use.requests > primary.requests) {
      use.blockedUntil = primary.resetAt * 1000
      use.inFlightUntil = now + IN_FLIGHT_MS
      return problem(403, 'API rate limit exceeded for installation ID 1.')
    }
    if (!secondary || request.method === 'GET') return null
    use.writes = [...use.writes.filter((at) => at > now - 990), now]
    if (use.writes.length <= secondary.writes) return null
    use.blockedUntil = now + secondary.retryAfter * 1000
    use.inFlightUntil = now + IN_FLIGHT_MS
    return this.#refusal(secondary.retryAfter)
  }

  /** Of every answer. */
  headers(request: RecordedRequest): Record<string, string> {
    const primary = this.#limits?.primary
    if (!primary) return {}
    const left = Math.max(0, primary.requests - this.#use(request).requests)
    return {
      'x-ratelimit-limit': String(primary.requests),
      'x-ratelimit-remaining': String(left),
      'x-ratelimit-reset': String(primary.resetAt),
    }
  }

  #refusal(seconds: number): Answer {
    const answer = problem(403, 'You have exceeded a secondary rate limit. Please wait a few minutes.')
    return { ...answer, headers: { 'retry-after': String(Math.ceil(seconds)) } }
  }

  #use({ headers }: RecordedRequest): Use {
    const key = headers.authorization ?? ''
    const use = this.#uses.get(key) ?? { requests: 0, writes: [], blockedUntil: 0, inFlightUntil: 0 }
    this.#uses.set(key, use)
    return use
  }
}
