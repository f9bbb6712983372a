import type { IncomingMessage } from 'node:http'
import { SCOPES, type Scope, scopesUpTo } from '../../core/access/access-token.ts'
import {
  isSessionKey,
  newSessionKey,
  type Sessions,
  sealed,
  sessionHash,
  unsealed,
} from '../../core/access/session.ts'
import { ConveyorError } from '../../core/errors.ts'
import type { SignedIn, SignIn } from '../../forge/sign-in.ts'
import { keepNewest } from '../../util/collections/keep-newest.ts'
import { cookieHeader, readCookie } from './cookies.ts'
import type { Identity } from './identity.ts'

const COOKIE = 'conveyor'
/** For how long it is believed what somebody may do at the forge. */
const FRESH_MS = 5 * 60_000
/** The same while the forge cannot be asked. */
const STALE_MS = 60 * 60_000
/** Whose roles are kept; those looked up first are dropped first. */
const MOST_PEOPLE = 1000
/** GitHub's tokens are valid for eight hours. */
const LONGEST_S = 8 * 3600
/** A session ends before its token does. */
const EARLY_S = 60

type Roles = ReadonlyMap<string, Scope>

interface Known {
  roles: Roles
  at: number
}

export interface PeopleOptions {
  signIn: SignIn
  sessions: Sessions
  /** Public base URL. */
  baseUrl: () => string
  /** The server's own log, one line at a time. */
  log: (line: string) => void
  /** In milliseconds; replaced in tests. */
  now?: () => number
}

/** The people who have signed in at the forge. What they may do here is what they may do there. */
export class People {
  readonly #options: PeopleOptions
  readonly #now: () => number
  /** By the hash of the session. */
  readonly #known = new Map<string, Known>()
  readonly #pending = new Map<string, Promise<Roles | null>>()

  constructor(options: PeopleOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
  }

  /**
   * Who sends a request, by its session; null if there is none (any more).
   * @throws ConveyorError `unavailable` if the forge has not said for too long what they may do
   */
  async identityOf(request: IncomingMessage): Promise<Identity | null> {
    const key = readCookie(request, COOKIE, this.#options.baseUrl())
    if (key === null || !isSessionKey(key)) return null
    const hash = sessionHash(key)
    const session = await this.#options.sessions.find(hash)
    const token = session && unsealed(session.sealed, key)
    const roles = token && (await this.#roles(hash, token))
    if (!session || !roles) return null
    const best = SCOPES.findLast((scope) => [...roles.values()].includes(scope))
    const scopes = best === undefined ? [] : scopesUpTo(best)
    return { name: `@${session.person.login}`, scopes, repositories: [...roles.keys()], roles }
  }

  /**
   * Starts a session.
   * @returns the Set-Cookie header for it
   * @throws ConveyorError `unauthorized` if the person has access to no repository, and what the forge throws
   */
  async start({ person, token, expiresInSeconds }: SignedIn): Promise<string> {
    const { signIn, sessions, baseUrl } = this.#options
    const roles = await signIn.roles(token)
    if (roles.size === 0) {
      throw new ConveyorError(
        'unauthorized',
        `@${person.login} has access to none of the repositories here`,
        {
          hint: 'Ask for access to a repository on GitHub, or install the GitHub App on it',
        },
      )
    }
    const key = newSessionKey()
    const hash = sessionHash(key)
    const life = Math.max(EARLY_S, Math.min(expiresInSeconds ?? LONGEST_S, LONGEST_S) - EARLY_S)
    await sessions.start(hash, { person, sealed: sealed(token, key) }, life)
    this.#keep(hash, roles)
    return cookieHeader(COOKIE, key, life, baseUrl())
  }

  /** Ends the session of a request, if it has one. @returns the Set-Cookie header for that */
  async end(request: IncomingMessage): Promise<string> {
    const { sessions, baseUrl } = this.#options
    const key = readCookie(request, COOKIE, baseUrl())
    if (key !== null && isSessionKey(key)) {
      this.#known.delete(sessionHash(key))
      await sessions.end(sessionHash(key))
    }
    return cookieHeader(COOKIE, '', 0, baseUrl())
  }

  /** What somebody may do; null if their token is no longer valid, which ends the session. */
  async #roles(hash: string, token: string): Promise<Roles | null> {
    const known = this.#known.get(hash)
    if (known && this.#now() - known.at < FRESH_MS) return known.roles
    const running = this.#pending.get(hash)
    if (running) return running
    const looking = this.#look(hash, token, known).finally(() => this.#pending.delete(hash))
    this.#pending.set(hash, looking)
    return looking
  }

  async #look(hash: string, token: string, known: Known | undefined): Promise<Roles | null> {
    const { signIn, sessions, log } = this.#options
    try {
      const roles = await signIn.roles(token)
      this.#keep(hash, roles)
      return roles
    } catch (error) {
      if (!(error instanceof ConveyorError)) throw error
      if (error.kind === 'unauthorized') {
        this.#known.delete(hash)
        await sessions.end(hash)
        return null
      }
      if (known && this.#now() - known.at < STALE_MS) {
        log(`login: ${error.message}; going by what was known before`)
        return known.roles
      }
      throw error
    }
  }

  #keep(hash: string, roles: Roles): void {
    keepNewest(this.#known, hash, { roles, at: this.#now() }, MOST_PEOPLE)
  }
}
