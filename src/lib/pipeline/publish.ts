import { type Build, type Recipe, shortName } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import { linesTo } from '../core/one-line.ts'
import { isMergeQueue } from '../core/validate.ts'
import type { Stopwatch } from '../util/stopwatch.ts'
import type { KnownImage } from './reuse/find-image.ts'
import type { BuildIo, BuildParts } from './run-build.ts'
import { provenRefs, settleBy } from './tags/tie-breaker.ts'
import { publishTags, tagNotes, wantedTags } from './tags/wanted.ts'

/** An image in the registry, the build that publishes it, and what it was made from where that is known. */
export interface Publication extends KnownImage {
  build: Build
  imageName: string
  recipe: Recipe | null
  tree: string | null
  /** Whether the image is there under its sha already. */
  pushed: boolean
}

/**
 * Points the build's tags at its image, and stores the success.
 * @param stays told of the tags that did not move, as they point at a newer push
 * @returns the image, `repo@sha256:...`
 */
export function publish(
  { build, imageName, digest, pushed, ...made }: Publication,
  parts: Pick<BuildParts, 'store' | 'registry' | 'names' | 'latest' | 'history'>,
  io: BuildIo,
  watch: Stopwatch,
  stays?: (tags: string[]) => Promise<void>,
): Promise<string> {
  const say = linesTo(io.log)
  const image = `${imageName}@${digest}`
  return finish(build, parts, { image, ...made }, async (current) => {
    const { refs, withheld } = await provenRefs(current, parts.history, io.signal)
    const all = wantedTags(current, parts.latest, parts.names)
    const wanted = withheld.length > 0 ? wantedTags({ ...current, refs }, parts.latest, parts.names) : all
    // The engine has pushed a new image by its sha; one that is reused has yet to be called so.
    const moves = pushed ? wanted : [{ tag: build.sha, sequence: current.sequence }, ...wanted]
    const settle = settleBy(build.repository, { history: parts.history, say }, io.signal)
    const moved = await watch.measure('tag', publishTags(parts, imageName, digest, moves, settle, io.signal))
    for (const line of tagNotes(wanted, moved)) await say(line)
    for (const { ref, reason } of withheld) await say(`tag ${parts.names.tag(ref)} is not moved: ${reason}`)
    for (const { tag, reason } of current.withheld ?? []) {
      if (!moved.includes(tag)) await say(`tag ${tag} is not moved: ${reason}`)
    }
    for (const { name } of current.refs.filter(isMergeQueue)) {
      await say(`branch ${name} is a merge queue's: it gets no tag but the sha's`)
    }
    const behind = [...new Set(all.map(({ tag }) => tag))].filter((tag) => !moved.includes(tag))
    await stays?.(behind)
    const tags = [...new Set([build.sha, ...moved])]
    // Before the end is stored, so that no crash leaves the log of a succeeded build without it.
    await say('', `${watch}`, `tags ${tags.join(', ')}`, `image ${image}`)
    await io.log.flush()
    return tags.map((tag) => `${imageName}:${tag}`)
  })
}

/** Publishes for every ref that the build has by then, and stores the success. */
export async function finish(
  build: Build,
  parts: Pick<BuildParts, 'store'>,
  made: { image: string } & Partial<Pick<Publication, 'recipe' | 'bases' | 'tree'>>,
  publish: (current: Build) => Promise<string[]>,
): Promise<string> {
  for (;;) {
    const current = await parts.store.get(build.id)
    if (!current || current.attempt !== build.attempt) break
    const tags = await publish(current)
    const result = { state: 'succeeded', tags, ...made } as const
    const answer = await parts.store.finish(build.id, build.attempt, current.refs.length, result)
    if (answer === 'finished') return made.image
    if (answer === 'superseded') break
    // Another ref joined while we published: publish that one too.
  }
  throw new ConveyorError('cancelled', `another worker has taken over ${shortName(build)}`)
}
