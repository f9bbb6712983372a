import { type BuildRequest, type Head, mayUseCache } from '../../core/build.ts'
import { about } from '../../core/log.ts'
import { refTitle } from '../../core/validate.ts'
import type { FoundCommit, History, RemoteHeads } from '../../source/source.ts'
import type { Candidate, HeadComparison, WaitingHead } from '../../store/comparisons.ts'
import { type RequestParts, requestBuild } from '../accept.ts'
import type { BuildPolicy } from '../policy/build-policy.ts'
import { joinPulls } from '../pulls/pulls.ts'
import { changedHeads, keyOfRef, packHeads, seenHeads, unpackHeads } from './packed-heads.ts'

/** Why a head that was found is built, for its log and the page. */
export const FOUND = 'found by comparing branches: no webhook came'

/** How long a head waits for its webhook before it counts as missed, in seconds. */
export const WEBHOOK_WAIT_S = 30
/** Heads of one repository that are built after one comparison; the others follow after the next. */
const MOST_AT_ONCE = 100
/** Heads of one repository of which it is remembered since when they wait. */
const MOST_WAITING = 1000
/** When the next comparison is due if heads are left. */
const SOON_S = 30

export interface CompareParts extends RequestParts {
  remote: RemoteHeads
  history: Pick<History, 'head'>
  policy: BuildPolicy
  /** Whether pull requests get tags. */
  pulls: boolean
}

interface CompareOptions {
  /** How long heads wait for their webhook, in seconds. */
  waitS: number
  /** After how many seconds the next comparison is due if none are left. */
  intervalS: number
  signal: AbortSignal
}

/**
 * Compares the heads of a repository with its builds, and has those built that no build knows, oldest first. The first
 * time, all heads count as known.
 * @throws ConveyorError if the git server or the store does not answer: what was seen remains
 */
export async function compareHeads(
  comparison: HeadComparison,
  parts: CompareParts,
  { waitS, intervalS, signal }: CompareOptions,
): Promise<void> {
  const { store, remote, log } = parts
  const { repository } = comparison
  const since = await store.reserveSequence()
  const heads = await remote.heads(repository, signal)
  const seen = await seenHeads(heads)
  if (comparison.heads === null) {
    const first = { heads: await packHeads(seen), sequence: since, waiting: [] }
    await store.comparisons.compared(repository, first, intervalS)
    log(
      `${repository}: ${heads.length} branches and git tags are known; others are built even if no webhook comes`,
    )
    return
  }

  const unknown = await unknownHeads(comparison, heads, parts)
  const { due, waiting } = byWait(unknown, comparison.waiting, waitS)
  const now = due.slice(0, MOST_AT_ONCE)
  await buildHeads(repository, now, since, parts, signal)

  const left = [...due.slice(MOST_AT_ONCE), ...waiting]
  for (const { ref, before } of left) {
    if (before === null) seen.delete(keyOfRef(ref))
    else seen.set(keyOfRef(ref), before)
  }
  const remembered = left.slice(0, MOST_WAITING).map(({ ref, sha, since }) => ({ ref, sha, since }))
  await store.comparisons.compared(
    repository,
    { heads: await packHeads(seen), sequence: since, waiting: remembered },
    left.length > 0 ? Math.min(SOON_S, intervalS) : intervalS,
  )
}

/** Heads that no build knows, and that would be built, as far as their names say. */
async function unknownHeads(
  { repository, heads: packed, sequence }: HeadComparison,
  heads: Head[],
  { store, policy }: CompareParts,
): Promise<Candidate[]> {
  const [seen, pushed] = await Promise.all([
    packed === null ? new Map<string, string>() : unpackHeads(packed),
    store.comparisons.pushedSince(repository, sequence),
  ])
  const candidates = await changedHeads(heads, seen, pushed)
  const unknown = await store.comparisons.unknown(repository, candidates, sequence)
  return unknown.filter(({ ref }) => policy.whyNot({ repository, ref, message: null }) === null)
}

type Unknown = Candidate & { since: string }

/** Heads whose webhook should have come by now, and the others; both with the time since when they wait. */
function byWait(
  unknown: Candidate[],
  waiting: WaitingHead[],
  waitS: number,
): { due: Unknown[]; waiting: Unknown[] } {
  const known = new Map(waiting.map(({ ref, sha, since }) => [`${keyOfRef(ref)} ${sha}`, since]))
  const now = new Date()
  const all = unknown.map((head) => {
    const since = known.get(`${keyOfRef(head.ref)} ${head.sha}`) ?? now.toISOString()
    return { ...head, since }
  })
  const isDue = ({ since }: Unknown) => now.getTime() - Date.parse(since) >= waitS * 1000
  return { due: all.filter(isDue), waiting: all.filter((head) => !isDue(head)) }
}

/** Has heads built, oldest commit first. What is no commit, and what its message excludes, is not. */
async function buildHeads(
  repository: string,
  heads: Head[],
  since: number,
  parts: CompareParts,
  signal: AbortSignal,
): Promise<void> {
  if (heads.length === 0) return
  const { remote, history, policy, log } = parts
  const [commits, main] = await Promise.all([
    remote.commits(
      repository,
      heads.map(({ sha }) => sha),
      signal,
    ),
    history.head(repository, null, signal),
  ])
  const dated = heads.flatMap((head) => {
    const commit = commits.get(head.sha)
    return commit ? [{ ...head, commit }] : []
  })
  dated.sort((one, other) => Date.parse(one.commit.committedAt) - Date.parse(other.commit.committedAt))
  for (const { ref, sha, commit } of dated) {
    const name = `${refTitle(ref)} of ${repository} at ${sha.slice(0, 7)}`
    const excluded = policy.whyNot({ repository, ref, message: commit.message })
    if (excluded !== null) {
      log(`${name} has no build: ${excluded}`)
      continue
    }
    const defaultBranch = main?.ref.name ?? null
    const supersede = policy.supersedes(ref, defaultBranch)
    const request = requestFor({ repository, ref, sha, defaultBranch }, commit, since)
    const { build, outcome } = await requestBuild({ ...request, ...(supersede && { supersede }) }, parts)
    log(`${name} was ${FOUND}: build ${build.id} (${outcome})`, about(build))
    if (ref.kind === 'branch' && parts.pulls) await joinPulls(build, ref.name, parts)
  }
}

function requestFor(
  head: Pick<BuildRequest, 'repository' | 'ref' | 'sha' | 'defaultBranch'>,
  { tree, info, message }: FoundCommit,
  since: number,
): BuildRequest {
  return {
    ...head,
    ...{ tree, commit: info, cache: mayUseCache(message) },
    ...{ source: { kind: 'server' }, reason: FOUND, found: { since } },
  }
}
