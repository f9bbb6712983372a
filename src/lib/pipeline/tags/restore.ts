import type { Build } from '../../core/build.ts'
import { linesTo } from '../../core/one-line.ts'
import type { TagMove } from '../../store/build-store.ts'
import type { BuildIo, BuildParts } from '../run-build.ts'
import { wantedTags } from './wanted.ts'

type Parts = Pick<BuildParts, 'store' | 'registry' | 'names' | 'latest'>

/** How many of the builds that moved a tag are looked at; the newest push is nearly always the first. */
const CANDIDATES = 5
/** As it runs after a build was stopped, too, it has a time limit of its own. */
const LIMIT_MS = 30_000

/**
 * Points tags that a builder image has moved by itself back at the newest push that was published under
 * them. A tag that a running build is moving on at this moment is left alone: that build looks after it
 * when its artifact is stored, so that one of the two always sees what the other did. Never throws, as
 * the build has its own end: what could not be restored is said in its log.
 */
export async function restoreTags(
  build: Build,
  imageName: string,
  tags: string[],
  parts: Parts,
  { log }: Pick<BuildIo, 'log'>,
): Promise<void> {
  const signal = AbortSignal.timeout(LIMIT_MS)
  const say = linesTo(log)
  await Promise.all(
    tags.map(async (tag) => {
      try {
        const to = await restoreTag(build, imageName, tag, parts, signal)
        if (to) await say(`tag ${tag} had been moved by a builder image: it is at ${to} again`)
      } catch (error) {
        const why = (error as Error).message
        await say(`warning: tag ${tag} may point at an older push, and could not be checked: ${why}`)
      }
    }),
  )
}

/** @returns the digest that the tag was pointed at; null when it was where it belongs. */
async function restoreTag(
  build: Build,
  imageName: string,
  tag: string,
  { store, registry, names, latest }: Parts,
  signal: AbortSignal,
): Promise<string | null> {
  const present = await registry.head(imageName, tag, signal)
  const candidates = await store.artifactsTagged(build.repository, `${imageName}:${tag}`, CANDIDATES)
  for (const { buildId, image } of candidates) {
    const owner = await store.get(buildId)
    const moves = owner ? wantedTags(owner, latest, names).filter((it) => mayBe(it, tag)) : []
    if (moves.length === 0 || !image.startsWith(`${imageName}@`)) continue
    const digest = image.slice(imageName.length + 1)
    if (digest === present) return null
    const manifest = await registry.manifest(imageName, digest, signal)
    // Moves nothing when a newer push has taken the tag: also not at the very same moment. What was in doubt when
    // that one took it is so no more.
    const put = (name: string) => registry.putManifest(imageName, name, manifest, signal)
    const moved = await store.moveTags(imageName, moves, put, async () => false)
    if (moved.includes(tag)) return digest
  }
  return null
}

function mayBe(move: TagMove, tag: string): boolean {
  return move.tag === tag || (move.owner?.others.includes(tag) ?? false)
}
