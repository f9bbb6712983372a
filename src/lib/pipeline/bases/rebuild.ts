import { randomUUID } from 'node:crypto'
import type { BaseImage, BuildRequest } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import { refTitle } from '../../core/validate.ts'
import type { Queue } from '../../queue/queue.ts'
import { splitReference } from '../../registry/image-name.ts'
import type { ImageNames, Registry } from '../../registry/registry.ts'
import type { BuildStore } from '../../store/build-store.ts'
import { requestBuild } from '../accept.ts'
import { headsOf, type PublishedHead } from './heads.ts'

export interface RebuildParts {
  store: BuildStore
  registry: Pick<Registry, 'head'>
  names: ImageNames
  queue: Queue
  log: Log
}

interface Wanted {
  /** Globs of repositories; none means none. */
  patterns: readonly string[]
  /** Whether a repository may be built at all. */
  isAllowed: (repository: string) => boolean
}

/** Names the pauses between look-ups, and between the builds of a repository. */
const PAUSE = 'base images'
const HOUR_S = 3600
const DAY_S = 24 * HOUR_S
/** Look-ups that have not ended after so many seconds are made again: their server has died, or the store failed. */
const LOOKING_S = 600
/** The same for the requests of builds of a repository. */
const REQUESTING_S = 60
/** A registry that asks for a longer wait is asked again after this, in seconds. */
const LONGEST_PAUSE_S = DAY_S
/** Repositories that are read at a time. */
const PAGE = 100

/**
 * Looks up every base image of the images that default branches and newest releases have now, once each, and requests
 * builds of those whose base image has another digest than when they were built: of a repository at most once a day. Does
 * nothing if any server has done so within the hour.
 * @throws what the store throws, and the signal's reason
 */
export async function rebuildMovedBases(
  parts: RebuildParts,
  wanted: Wanted,
  signal: AbortSignal,
): Promise<void> {
  const { store } = parts
  // A holder that nobody is again: once the work is done, the lease is a pause for everybody.
  const holder = randomUUID()
  if (!(await store.leases.take(PAUSE, holder, LOOKING_S))) return
  const lookups = new Lookups(parts, signal)
  let cursor: string | undefined
  do {
    const listing = { allowed: wanted.patterns, limit: PAGE, ...(cursor !== undefined && { cursor }) }
    const page = await store.repositories(listing)
    for (const { name } of page.repositories) {
      signal.throwIfAborted()
      if (!wanted.isAllowed(name)) continue
      await rebuild(name, lookups, parts).catch((error: unknown) => {
        signal.throwIfAborted()
        // As for a name that no image can have: the other repositories are not concerned.
        if (!(error instanceof ConveyorError) || error.retryable) throw error
        parts.log(`base images of ${name}: ${error.advice}`, { level: 'warn' })
      })
    }
    cursor = page.next ?? undefined
    await store.leases.take(PAUSE, holder, cursor === undefined ? HOUR_S : LOOKING_S)
  } while (cursor !== undefined)
}

async function rebuild(repository: string, lookups: Lookups, parts: RebuildParts): Promise<void> {
  const { store, log } = parts
  const moved: { head: PublishedHead; reason: string }[] = []
  for (const head of await headsOf(repository, parts)) {
    const reason = await lookups.whatMoved(head.bases)
    if (reason !== null) moved.push({ head, reason })
  }
  if (moved.length === 0) return
  const daily = `${PAUSE} of ${repositoryKey(repository)}`
  const holder = randomUUID()
  if (!(await store.leases.take(daily, holder, REQUESTING_S))) return
  for (const { head, reason } of moved) {
    const { build, outcome } = await requestBuild(requestOf(head, reason), parts)
    log(`${reason}: build ${build.id} of ${repository} (${refTitle(head.ref)}, ${outcome})`, {
      build: build.id,
      repository,
      sha: build.sha,
    })
  }
  await store.leases.take(daily, holder, DAY_S)
}

function requestOf({ build, ref, tree }: PublishedHead, reason: string): BuildRequest {
  const { repository, sha, defaultBranch, commit } = build
  return {
    ...{ repository, sha, defaultBranch, reason },
    ref: { kind: ref.kind, name: ref.name },
    cache: true,
    ...(tree !== null && { tree }),
    ...(commit && { commit }),
    ...(ref.unproven && { unproven: true }),
    source: { kind: 'server' },
  }
}

/** Digests of base images now: each image is looked up once, and a registry that asks for a break gets it. */
class Lookups {
  readonly #parts: RebuildParts
  readonly #signal: AbortSignal
  readonly #digests = new Map<string, Promise<string | null>>()
  /** Whether a registry is left alone for now. */
  readonly #silent = new Map<string, Promise<boolean>>()
  readonly #holder = randomUUID()

  constructor(parts: RebuildParts, signal: AbortSignal) {
    this.#parts = parts
    this.#signal = signal
  }

  /** What has moved, for people; null if nothing has, as far as is known. */
  async whatMoved(bases: readonly BaseImage[]): Promise<string | null> {
    const moves: string[] = []
    for (const { name, resolved, digest } of bases) {
      // A pinned image cannot move, and one of the engine has no registry to ask.
      if (resolved !== 'registry') continue
      const now = await this.#digest(name)
      if (now !== null && now !== digest) {
        moves.push(`base image ${familiar(name)} moved from ${short(digest)} to ${short(now)}`)
      }
    }
    const [first, ...others] = moves
    if (first === undefined) return null
    return others.length > 0 ? `${first}, and ${others.length} more` : first
  }

  /** Null if it is not known. */
  #digest(name: string): Promise<string | null> {
    const digest = this.#digests.get(name) ?? this.#lookUp(name)
    this.#digests.set(name, digest)
    return digest
  }

  async #lookUp(name: string): Promise<string | null> {
    const { registry, store, log } = this.#parts
    const image = splitReference(name)
    const pause = `${PAUSE} in ${image.host}`
    const isSilent = this.#silent.get(image.host) ?? this.#isPaused(pause)
    this.#silent.set(image.host, isSilent)
    if (await isSilent) return null
    try {
      return await registry.head(image.name, image.identifier, this.#signal)
    } catch (error) {
      this.#signal.throwIfAborted()
      if (!(error instanceof ConveyorError)) throw error
      log(`looking up base image ${familiar(name)}: ${error.advice}`, { level: 'warn' })
      if (error.retryable) this.#silent.set(image.host, Promise.resolve(true))
      const { retryAfterMs = 0 } = error
      const seconds = Math.min(Math.ceil(retryAfterMs / 1000), LONGEST_PAUSE_S)
      if (seconds > 0) await store.leases.take(pause, this.#holder, seconds)
      return null
    }
  }

  /** Whether a registry asked an earlier look-up for a break that is not over. */
  async #isPaused(pause: string): Promise<boolean> {
    return !(await this.#parts.store.leases.take(pause, this.#holder, 1))
  }
}

/** `node:24` for `docker.io/library/node:24`. */
function familiar(name: string): string {
  return name.replace(/^docker\.io\/(library\/)?/, '')
}

function short(digest: string): string {
  return digest.slice(0, 'sha256:'.length + 12)
}
