import { ConveyorError } from '../errors.ts'
import { type Build, type Recipe, shortName } from './build.ts'
import { publishTags, wantedTags } from './publish.ts'
import type { KnownImage } from './reuse.ts'
import type { BuildIo, BuildParts } from './run-build.ts'
import type { Stopwatch } from './stopwatch.ts'

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
  parts: Pick<BuildParts, 'store' | 'registry' | 'names' | 'latest'>,
  io: BuildIo,
  watch: Stopwatch,
  stays?: (tags: string[]) => Promise<void>,
): Promise<string> {
  const say = (line: string) => io.log.write(`${line}\n`)
  const image = `${imageName}@${digest}`
  return finish(build, parts, { image, ...made }, async (current) => {
    const wanted = wantedTags(current, parts.latest, parts.names)
    // The engine has pushed a new image by its sha; one that is reused has yet to be called so.
    const moves = pushed ? wanted : [{ tag: build.sha, sequence: current.pushOrder }, ...wanted]
    const moved = await watch.measure('tag', publishTags(parts, imageName, digest, moves, io.signal))
    const behind = wanted.map(({ tag }) => tag).filter((tag) => !moved.includes(tag))
    for (const tag of behind) await say(`tag ${tag} stays where it is: it points at a newer push`)
    await stays?.(behind)
    const tags = [...new Set([build.sha, ...moved])]
    // Before the end is stored, so that no crash leaves the log of a succeeded build without it.
    await say(`\n${watch}\ntags ${tags.join(', ')}\nimage ${image}`)
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
