import type { BaseImage, Build, BuildRef, Ref } from '../../core/build.ts'
import type { ImageNames } from '../../registry/registry.ts'
import type { BuildStore } from '../../store/build-store.ts'

/** What people pull: the image that a branch or a git tag has now. */
export interface PublishedHead {
  /** The build that published it. */
  build: Build
  ref: BuildRef
  tree: string | null
  bases: BaseImage[]
}

/** In how many of the branches and git tags that were built last the newest release is looked for. */
const MOST_REFS = 500

/**
 * The heads of a repository's default branch and of the git tag that was pushed last, if they have images whose base
 * images are known.
 */
export async function headsOf(
  repository: string,
  { store, names }: { store: BuildStore; names: ImageNames },
): Promise<PublishedHead[]> {
  const built = await store.branches(repository, MOST_REFS)
  const defaultBranch = built.map(({ last }) => last.build.defaultBranch).find((name) => name !== null)
  const tags = built.flatMap(({ ref, last }) => {
    const pushed = last.build.refs.find((one) => isSame(one, ref))
    return ref.kind === 'tag' && pushed ? [pushed] : []
  })
  const newest = tags.sort((a, b) => b.sequence - a.sequence)[0]
  const refs: Ref[] = [
    ...(defaultBranch ? [{ kind: 'branch' as const, name: defaultBranch }] : []),
    ...(newest ? [newest] : []),
  ]
  const heads = await Promise.all(refs.map((ref) => headOf(repository, ref, store, names)))
  return heads.filter((head) => head !== null)
}

async function headOf(
  repository: string,
  ref: Ref,
  store: BuildStore,
  names: ImageNames,
): Promise<PublishedHead | null> {
  const tag = `${names.image(repository)}:${names.tag(ref)}`
  // By the order of pushes; only if another ref has that tag, by the order of builds.
  const tagged = await store.artifactsTagged(repository, tag, 1)
  for (const artifact of [...tagged, await store.lastArtifact(repository, [ref])]) {
    const build = artifact && (await store.get(artifact.buildId))
    const own = build?.refs.find((one) => isSame(one, ref))
    if (build && own)
      return artifact.bases ? { build, ref: own, tree: artifact.tree, bases: artifact.bases } : null
  }
  return null
}

function isSame(one: Ref, other: Ref): boolean {
  return one.kind === other.kind && one.name === other.name
}
