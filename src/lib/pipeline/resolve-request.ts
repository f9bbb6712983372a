import type { BuildRequest, Ref, Withheld } from '../core/build.ts'
import { ConveyorError, toConveyorError } from '../core/errors.ts'
import type { LatestPolicy } from '../core/settings.ts'
import { isMergeQueue } from '../core/validate.ts'
import type { Forge } from '../forge/forge.ts'
import type { ImageNames } from '../registry/registry.ts'
import type { History } from '../source/source.ts'
import type { BuildStore } from '../store/build-store.ts'
import { whereIs } from './tags/tie-breaker.ts'

/** What a person asked for: `sha` and `ref` are not both null. */
export interface Order {
  repository: string
  sha: string | null
  ref: Ref | null
}

export interface PlaceParts {
  store: BuildStore
  history: History
  names: Pick<ImageNames, 'tag'>
  latest: LatestPolicy
}

/** How the forge calls things, too. */
export interface OrderParts extends PlaceParts {
  forge: Pick<Forge, 'branchHead' | 'fullName'>
  log: (line: string) => void
}

/** An order, as far as it is known where its commit belongs. */
export type PlacedOrder = Pick<
  BuildRequest,
  'repository' | 'sha' | 'ref' | 'sequence' | 'within' | 'withheld'
>

/**
 * Looks up how the repository is spelled, the commit where only a branch was named, and else where the commit
 * belongs: see placeCommit.
 * @throws ConveyorError of the forge, when a branch cannot be looked up
 */
export async function placeOrder(order: Order, parts: OrderParts): Promise<PlacedOrder> {
  const { ref, sha } = order
  if (sha !== null)
    return placeCommit({ repository: await spelling(order.repository, parts), sha, ref }, parts)
  // Taken first, so that a push during the look-up counts as newer than what is found.
  const sequence = await parts.store.reserveSequence()
  const name = ref?.name ?? ''
  let head: string
  try {
    head = await parts.forge.branchHead(order.repository, name)
  } catch (error) {
    if (!(error instanceof ConveyorError && error.kind === 'not_found')) throw error
    return placeOther({ repository: await spelling(order.repository, parts), name }, error, parts)
  }
  return { repository: await spelling(order.repository, parts), sha: head, ref, sequence }
}

/**
 * What is no branch may be a git tag: its commit is built. The docker tag of that name belongs to the push of the git
 * tag, as `latest` does: an old release that is built once more must not become the latest.
 * @throws ConveyorError where it is none: what is known of the branch, or how a commit is to be named
 */
async function placeOther(
  { repository, name }: { repository: string; name: string },
  noBranch: ConveyorError,
  parts: OrderParts,
): Promise<PlacedOrder> {
  const tag: Ref = { kind: 'tag', name }
  const found = await parts.history.head(repository, tag).catch((error: unknown) => {
    if (error instanceof ConveyorError) return null
    throw error
  })
  if (found === null) throw shortSha(repository, name) ?? noBranch
  const { sha } = found
  if (await parts.store.announced(repository, sha, tag)) return { repository, sha, ref: tag }
  const placed = await placeCommit({ repository, sha, ref: null }, parts)
  const own = withheld([parts.names.tag(tag)], `no push announced the git tag ${name}`)
  return { ...placed, withheld: [...own, ...(placed.withheld ?? [])] }
}

function shortSha(repository: string, name: string): ConveyorError | null {
  if (!/^[0-9a-f]{4,63}$/i.test(name)) return null
  return new ConveyorError('not_found', `${repository} has no branch and no git tag "${name}"`, {
    hint: `Name a commit by all of its digits, as \`git rev-parse ${name}\` prints them`,
  })
}

/**
 * Whether a commit may move the tags of a ref, or without one `latest`. No tag is moved to a commit that was not
 * pushed there and that the branch (or for `latest` the default branch) does not contain: the request then is one
 * for the sha alone, and says which tags are withheld and why.
 */
export async function placeCommit(
  { ref, ...commit }: { repository: string; sha: string; ref: Ref | null },
  parts: PlaceParts,
): Promise<PlacedOrder> {
  const { store, names, latest } = parts
  // It keeps the place of that push.
  if (await store.announced(commit.repository, commit.sha, ref)) return { ...commit, ref }
  if (ref === null && latest !== 'always') return { ...commit, ref }
  const sequence = await store.reserveSequence()
  const found = await locate(commit, ref, parts)
  if (typeof found !== 'string') return { ...commit, ref, sequence, ...(ref === null && { within: found }) }
  if (ref === null)
    return { ...commit, ref, withheld: withheld(['latest'], `no push announced it, and ${found}`) }
  const own = isMergeQueue(ref) ? [] : [names.tag(ref)]
  return { ...commit, ref: null, withheld: withheld([...own, 'latest'], found) }
}

function withheld(tags: string[], reason: string): Withheld[] {
  return tags.map((tag) => ({ tag, reason }))
}

/** As whereIs; a git server that cannot be asked is a reason, too. */
function locate(
  commit: { repository: string; sha: string },
  ref: Ref | null,
  { history }: PlaceParts,
): Promise<Ref | string> {
  return whereIs(commit, ref, history).catch((error: unknown) => toConveyorError(error, 'it failed').message)
}

/**
 * The one spelling of a repository: as GitHub's webhooks have it, else as GitHub has it, else as it was given.
 * Everything that is kept by a repository's name ignores case, too.
 */
async function spelling(repository: string, { store, forge, log }: OrderParts): Promise<string> {
  const known = await store.spelling(repository)
  if (known !== null) return known
  try {
    const name = await forge.fullName(repository)
    // A repository that was renamed is found under its old name, too.
    return name.toLowerCase() === repository.toLowerCase() ? name : repository
  } catch (error) {
    log(`${repository} is taken as it is spelled: ${toConveyorError(error, 'it failed').message}`)
    return repository
  }
}
