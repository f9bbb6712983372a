import type { BuildRequest } from '../../core/build.ts'
import { ConflictError, ConveyorError } from '../../core/errors.ts'
import { isFromFork } from '../../core/pull-request.ts'
import type { Forge } from '../../forge/forge.ts'
import type { History } from '../../source/source.ts'
import type { BuildStore } from '../../store/build-store.ts'
import { containingRef } from '../tags/containing-ref.ts'
import { pullRef } from './pulls.ts'

interface ApproveParts {
  store: BuildStore
  forge: Pick<Forge, 'pull'>
}

/** Somebody wants a commit of a pull request to be built. */
export interface Approval {
  repository: string
  pull: number
  /** Full, or at least seven digits of it. */
  sha: string
  /** Who, as the forge or the login names them. */
  by: string
}

/** A request, without what its source adds. */
export type ApprovedRequest = Omit<BuildRequest, 'source' | 'cache'>

/**
 * The request for the head of a pull request that somebody has looked at. The head is asked for now, and has to be the
 * commit that they name: whatever is pushed afterwards is not approved.
 * @throws ConveyorError of the forge; ConflictError if the pull request is closed or its head is another commit
 */
export async function approvedRequest(
  { repository, pull: number, sha, by }: Approval,
  { store, forge }: ApproveParts,
): Promise<ApprovedRequest> {
  const pull = await forge.pull(repository, number)
  const { head } = pull
  await store.pulls.put(pull)
  if (!pull.open) throw new ConflictError(`pull request #${number} of ${repository} is closed`)
  if (!head.sha.startsWith(sha.toLowerCase())) {
    const now = head.sha.slice(0, 7)
    throw new ConflictError(
      `${sha.slice(0, 7)} is not the head of pull request #${number} of ${repository}, which is at ${now}`,
      { hint: `Look at what has changed, then ask for ${now}` },
    )
  }
  // Whoever writes the commits can make any number that begin alike: have one looked at, and then push another.
  const alike = await store.pulls.headsLike(pull.repository, number, sha.toLowerCase(), 2)
  if (alike.length > 1) {
    throw new ConflictError(
      `${sha} is short for several commits that were the head of pull request #${number} of ${repository}`,
      { hint: `Give the whole id of the one that you have looked at; the head is ${head.sha}` },
    )
  }
  const request = { repository: pull.repository, sha: head.sha, ref: pullRef(number), defaultBranch: null }
  if (!isFromFork(pull)) return request
  return { ...request, fork: { pull: number, repository: head.repository, approvedBy: by } }
}

/**
 * Refuses to build the commit of a fork as if it were the repository's own, with its secrets.
 * @throws ConflictError if the commit is, or was, the head of a fork's pull request, and nobody has pushed it to the
 * repository, or merged it
 */
export async function refuseUnapproved(
  repository: string,
  sha: string,
  { store, history }: { store: Pick<BuildStore, 'pulls' | 'announced'>; history: History },
): Promise<void> {
  const pulls = await store.pulls.ofForksWith(repository, sha)
  const head = pulls.find((pull) => pull.open && pull.head.sha === sha)
  const forked = head ?? pulls[0]
  if (!forked || (await store.announced(repository, sha, null))) return
  const merged = await containingRef({ repository, sha }, null, history).catch(() => 'unknown')
  if (typeof merged !== 'string') return
  throw new ConflictError(
    `${sha.slice(0, 7)} is a commit of ${forked.head.repository ?? 'a fork that is gone'}, for pull request #${forked.number} of ${repository}`,
    {
      hint: head
        ? `Build it as such, without secrets: with "pull": ${head.number}, or --pull ${head.number}`
        : 'Push it to a branch of the repository after a review',
    },
  )
}

/** Why somebody may not approve commits; null if they may. @throws ConveyorError of the forge */
export async function whyMayNotApprove(
  repository: string,
  login: string,
  forge: Pick<Forge, 'permission'>,
): Promise<string | null> {
  const permission = await forge.permission(repository, login)
  if (permission === 'write' || permission === 'admin') return null
  return `${login} may not write to ${repository}, and so not approve builds`
}

/** An approval that is refused, rather than an error of Conveyor or the forge: the reason is for a delivery log. */
export function refusal(error: unknown): string | null {
  return error instanceof ConveyorError && (error instanceof ConflictError || error.kind === 'not_found')
    ? error.advice
    : null
}
