import type { Build } from '../../core/build.ts'
import { linesTo } from '../../core/one-line.ts'
import { splitReference } from '../../registry/image-name.ts'
import type { TagMove } from '../../store/build-store.ts'
import type { BuildIo, BuildParts } from '../parts.ts'
import { moveTags } from './move.ts'
import { wantedTags } from './wanted.ts'

type Parts = Pick<BuildParts, 'store' | 'registry' | 'names' | 'latest'>

/** How many of the builds that moved a tag are checked; the newest push is nearly always the first. */
const CANDIDATES = 5
/** This also runs after a build was aborted, so it has its own time limit. */
const LIMIT_MS = 30_000

/**
 * Points tags that a builder image moved itself back at the newest push that was published under them. A tag that a
 * running build is moving right now is left alone: that build restores it after its artifact is stored, so one of the
 * two always sees what the other did. Never throws, as the build's own result stands; failures are logged.
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
        if (to) await say(`tag ${tag} was moved by a builder image; it is back at ${to}`)
      } catch (error) {
        const why = (error as Error).message
        const warning = `warning: tag ${tag} could not be checked and may point at an older push: ${why}`
        await say(warning).catch(() => {}) // a log that cannot be written
      }
    }),
  )
}

/** @returns the digest that the tag was pointed back at; null if it was right. */
async function restoreTag(
  build: Build,
  imageName: string,
  tag: string,
  parts: Parts,
  signal: AbortSignal,
): Promise<string | null> {
  const { store, registry, names, latest } = parts
  const present = await registry.head(imageName, tag, signal)
  const candidates = await store.artifactsTagged(build.repository, `${imageName}:${tag}`, CANDIDATES)
  for (const artifact of candidates) {
    const owner = await store.get(artifact.buildId)
    const moves = owner ? wantedTags(owner, latest, names).filter((move) => mayMove(move, tag)) : []
    const digest = splitReference(artifact.image).digestIn(imageName)
    if (moves.length === 0 || digest === null) continue
    if (digest === present) return null
    // Moves nothing if a newer push has taken the tag, even at this very moment. There is no tie to break: the push
    // that holds the tag won when it took it.
    const moved = await moveTags(parts, imageName, digest, moves, async () => false, signal)
    if (moved.includes(tag)) return digest
  }
  return null
}

function mayMove(move: TagMove, tag: string): boolean {
  return move.tag === tag || (move.owner?.others.includes(tag) ?? false)
}
