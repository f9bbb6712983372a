import type { BuildRequest, Ref, Withheld } from '../core/build.ts'
import { ConveyorError, toConveyorError } from '../core/errors.ts'
import { repositoryKey } from '../core/repository-key.ts'
import type { LatestPolicy } from '../core/settings.ts'
import { isMergeQueue } from '../core/validate.ts'
import type { Forge } from '../forge/forge.ts'
import type { ImageNames } from '../registry/registry.ts'
import type { History } from '../source/source.ts'
import type { BuildStore } from '../store/build-store.ts'
import { containingRef } from './tags/containing-ref.ts'

/** A request through the API or the CLI: a sha, a ref, or both. */
export interface UnresolvedRequest {
  repository: string
  sha: string | null
  ref: Ref | null
}

interface ResolveCommitParts {
  store: BuildStore
  history: History
  names: Pick<ImageNames, 'tag'>
  latest: LatestPolicy
}

interface ResolveParts extends ResolveCommitParts {
  forge: Pick<Forge, 'branchHead' | 'fullName'>
  log: (line: string) => void
}

/** A request whose commit is known, and which tags that may move. */
export type ResolvedRequest = Pick<
  BuildRequest,
  'repository' | 'sha' | 'ref' | 'sequence' | 'within' | 'withheld'
>

/**
 * Looks up the repository's canonical name and, if only a branch was named, the commit at its head; otherwise, which
 * tags the commit may move (see resolveCommit).
 * @throws ConveyorError of the forge, if a branch cannot be looked up
 */
export async function resolveRequest(
  request: UnresolvedRequest,
  parts: ResolveParts,
): Promise<ResolvedRequest> {
  const { ref, sha } = request
  if (sha !== null) {
    return resolveCommit({ repository: await canonicalName(request.repository, parts), sha, ref }, parts)
  }
  // Reserved first, so that a push during the lookup counts as newer than the head found here.
  const sequence = await parts.store.reserveSequence()
  const name = ref?.name ?? ''
  let head: string
  try {
    head = await parts.forge.branchHead(request.repository, name)
  } catch (error) {
    if (!(error instanceof ConveyorError && error.kind === 'not_found')) throw error
    return resolveGitTag({ repository: await canonicalName(request.repository, parts), name }, error, parts)
  }
  return { repository: await canonicalName(request.repository, parts), sha: head, ref, sequence }
}

/**
 * A name that is not a branch may be a git tag: its commit is built. The docker tag of that name, like `latest`, moves
 * only by the push of the git tag: rebuilding an old release must not make it the latest.
 * @throws ConveyorError if there is no such git tag: the forge's answer about the branch, or that a short sha was given
 */
async function resolveGitTag(
  { repository, name }: { repository: string; name: string },
  noBranch: ConveyorError,
  parts: ResolveParts,
): Promise<ResolvedRequest> {
  const tag: Ref = { kind: 'tag', name }
  const found = await parts.history.head(repository, tag).catch((error: unknown) => {
    if (error instanceof ConveyorError) return null
    throw error
  })
  if (found === null) throw shortSha(repository, name) ?? noBranch
  const { sha } = found
  if (await parts.store.announced(repository, sha, tag)) return { repository, sha, ref: tag }
  const resolved = await resolveCommit({ repository, sha, ref: null }, parts)
  const own = withheld([parts.names.tag(tag)], `no push announced the git tag ${name}`)
  return { ...resolved, withheld: [...own, ...(resolved.withheld ?? [])] }
}

function shortSha(repository: string, name: string): ConveyorError | null {
  if (!/^[0-9a-f]{4,63}$/i.test(name)) return null
  return new ConveyorError('not_found', `${repository} has no branch or git tag "${name}"`, {
    hint: `Give the full commit id, as \`git rev-parse ${name}\` prints it`,
  })
}

/**
 * Decides whether a commit may move the tags of a ref or, without one, `latest`. A tag moves only to a commit that was
 * pushed to its ref, or that the branch (for `latest`, the default branch) contains; otherwise the request is resolved
 * to one for the sha alone, which says which tags are withheld and why.
 */
export async function resolveCommit(
  { ref, ...commit }: { repository: string; sha: string; ref: Ref | null },
  parts: ResolveCommitParts,
): Promise<ResolvedRequest> {
  const { store, history, names, latest } = parts
  // The build takes the position of that push.
  if (await store.announced(commit.repository, commit.sha, ref)) return { ...commit, ref }
  if (ref === null && latest !== 'always') return { ...commit, ref }
  const sequence = await store.reserveSequence()
  // A git server that does not answer is a reason, too.
  const found = await containingRef(commit, ref, history).catch(
    (error: unknown) => toConveyorError(error, 'it failed').message,
  )
  if (typeof found !== 'string') return { ...commit, ref, sequence, ...(ref === null && { within: found }) }
  if (ref === null)
    return { ...commit, ref, withheld: withheld(['latest'], `no push announced it, and ${found}`) }
  const own = isMergeQueue(ref) ? [] : [names.tag(ref)]
  return { ...commit, ref: null, withheld: withheld([...own, 'latest'], found) }
}

function withheld(tags: string[], reason: string): Withheld[] {
  return tags.map((tag) => ({ tag, reason }))
}

/**
 * The repository's name in its canonical case: that of GitHub's webhooks, else of GitHub's API, else as it was given.
 * Whatever is stored by a repository's name ignores case, too.
 */
async function canonicalName(repository: string, { store, forge, log }: ResolveParts): Promise<string> {
  const known = await store.spelling(repository)
  if (known !== null) return known
  try {
    const name = await forge.fullName(repository)
    // The forge also finds a renamed repository under its old name.
    return repositoryKey(name) === repositoryKey(repository) ? name : repository
  } catch (error) {
    const { message } = toConveyorError(error, 'it failed')
    log(`${repository} could not be looked up; using the spelling of the request: ${message}`)
    return repository
  }
}
