import { type Build, isEnded, type Ref, shortName } from '../../core/build.ts'
import { ConflictError, ConveyorError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import type { Queue } from '../../queue/queue.ts'
import type { IdempotencyKey } from '../../store/build-list.ts'
import type { Accepted, BuildStore } from '../../store/build-store.ts'
import { queueAccepted, requestBuild } from '../accept.ts'
import { pullRef, pullsAt } from '../pulls/pulls.ts'

interface RetryParts {
  store: BuildStore
  queue: Queue
  /** The server's own log, one line at a time. */
  log: Log
}

/**
 * Builds a commit again, for all refs of an ended build, and the pull requests whose head it is by now. Each ref keeps the
 * position of its push, so that tags which belong to newer pushes by now stay where they are.
 * @param options.cache whether the cache may be used; by default as in the build itself
 * @param options.key makes a request that is repeated get the same build: see BuildStore.accept
 * @returns `joined` if another request for the commit arrived in this very moment
 * @throws ConflictError naming the build of this commit that has not ended; ConveyorError `not_found`
 */
export async function retryBuild(
  id: string,
  { cache, key }: { cache?: boolean | undefined; key?: IdempotencyKey },
  parts: RetryParts,
): Promise<Accepted> {
  const { store } = parts
  const before = key ? await store.repeated(key) : null
  if (before) return { build: before, queued: true, outcome: 'redelivered' }
  const build = await store.get(id)
  if (!build) throw new ConveyorError('not_found', `build ${id.slice(0, 200)} not found`)
  if (!isEnded(build.state)) throw running(build)
  const newest = await store.newest(build.repository, build.sha, build.fork?.pull)
  if (newest && !isEnded(newest.state)) throw running(newest)

  const { repository, sha, defaultBranch, tree, commit, withheld, fork } = build
  const request = (ref: (Ref & { unproven?: true; sequence?: number }) | null) => ({
    repository,
    sha,
    ref: ref && { kind: ref.kind, name: ref.name },
    defaultBranch,
    cache: cache ?? build.cache,
    ...(tree !== null && { tree }),
    ...(commit && { commit }),
    ...(withheld && { withheld }),
    ...(fork && { fork }),
    ...(ref?.unproven && { unproven: true }),
    ...(ref?.sequence !== undefined && { sequence: ref.sequence }),
    source: { kind: 'api' as const },
  })
  // Queued with the last one, so that the first attempt knows all refs.
  const heads = await headsOf(build, store)
  const isHead = ({ kind, name }: Ref) => kind === 'pull' && heads.some((head) => head.name === name)
  const pushed = build.refs.filter((ref) => !isHead(ref)).map(({ sequence: _, ...ref }) => ref)
  const refs = [...pushed, ...heads]
  const last = refs.at(-1) ?? null
  let first: Accepted | undefined
  try {
    for (const ref of refs.slice(0, -1)) {
      const accepted = await store.accept(request(ref))
      first ??= accepted
    }
    const accepted = await requestBuild(request(last), parts, key)
    return first ? { ...accepted, outcome: first.outcome } : accepted
  } catch (error) {
    // What was accepted is built all the same, for the refs that it has.
    if (first) await queueAccepted(first, parts)
    throw error
  }
}

/**
 * The pull requests whose head the commit is: as it may have been so before, and another one since, with the position of a
 * new push.
 */
async function headsOf(build: Build, store: BuildStore): Promise<(Ref & { sequence: number })[]> {
  // Without refs, people have asked for the commit alone.
  if (build.fork || build.refs.length === 0) return []
  const heads: (Ref & { sequence: number })[] = []
  for (const { number } of await pullsAt(build, store)) {
    heads.push({ ...pullRef(number), sequence: await store.reserveSequence() })
  }
  return heads
}

function running(build: Build): ConveyorError {
  const { id, state } = build
  return new ConflictError(`build ${id} of ${shortName(build)} has not ended: it is ${state}`, {
    hint: `Wait for build ${id}, or cancel it first`,
  })
}
