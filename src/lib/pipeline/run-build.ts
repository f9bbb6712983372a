import type { Build } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import { linesTo } from '../core/one-line.ts'
import type { Commit, Context } from '../source/source.ts'
import { Stopwatch } from '../util/stopwatch.ts'
import { buildImage } from './build-image.ts'
import { cacheInput } from './build-input.ts'
import { CacheImport } from './cache/import.ts'
import type { RegistryImage } from './image.ts'
import type { BuildIo, BuildParts, StepIo } from './parts.ts'
import { buildAfterAll, publishAndStore } from './publish.ts'
import { noForksInContainers } from './pulls/forks.ts'
import { findByRecipe, findByTree, withCachedHeads } from './reuse/find-image.ts'
import { withGitArgs } from './reuse/git-args.ts'
import { platformFor, recipeOf } from './reuse/recipe.ts'
import { runInContainer } from './run-in-container.ts'

/**
 * Runs one attempt at a build, from the commit to the published tags, and stores its success.
 * @returns the image, `repo@sha256:...`
 * @throws ConveyorError saying what failed; nothing has been stored then. Kind `cancelled` if another worker has
 * taken over the build, or somebody cancelled it.
 */
export async function runBuild(build: Build, parts: BuildParts, io: BuildIo): Promise<string> {
  const { container, builder } = parts
  if (container && build.fork) throw noForksInContainers(build)
  if (container) return runInContainer(build, { ...parts, container }, io)

  const watch = new Stopwatch(io.observer, io.timeline)
  const step = { ...io, watch }
  const imageName = parts.names.image(build.repository)
  const settings = parts.settings(build.repository)
  // The images of others may contain what a fork must not have, and its own may not be what it says.
  const mayReuse = build.cache && !parts.dry && !build.fork
  // Fetches layers during the steps up to the build.
  await using cache = new CacheImport(build, imageName, parts, io)

  // Look up: an image of the same tree needs no fetch, unless the commit itself may be part of the image.
  const lookup = { ...parts, registry: withCachedHeads(parts.registry) }
  const sameTree =
    mayReuse && !settings.gitArgs
      ? await watch.measure('look up', findByTree(build, imageName, settings, lookup, io))
      : null
  const reusedByTree = sameTree && (await publishReused(build, imageName, sameTree, parts, step))
  if (reusedByTree) return reusedByTree
  io.onBegin?.()

  // Fetch.
  const commit = await watch.measure('fetch', fetchCommit(build, parts, io))

  // Context.
  const context = await watch.measure('context', openContext(build, commit, parts, io))
  io.onDockerfile?.()
  try {
    const { length } = context.entries
    watch.note('context', `${length} ${length === 1 ? 'entry' : 'entries'}`)
    const own = await withGitArgs(build, commit, context, parts, io.signal)
    const platform = await platformFor(imageName, settings, parts)
    const recipe = await recipeOf(context, own.settings(build.repository), platform)
    const prepared = { build, imageName, commit, context, recipe }

    // Reuse, unless an image of the same tree turned out to be incomplete,
    const sameRecipe =
      mayReuse && !sameTree ? await watch.measure('look up', findByRecipe(prepared, lookup, io)) : null
    const reused = sameRecipe && (await publishReused(build, imageName, sameRecipe, parts, step))
    if (reused) return reused

    // or build.
    const { image, steps } = await buildImage(prepared, cache.sources, own, step)

    // Publish, and store.
    const reference = await publishAndStore(build, imageName, image, parts, step)
    if (image.origin === 'built' && steps.cached < steps.total && !build.fork) {
      builder.saveCache(imageName, (signal) => cacheInput(prepared, own, signal))
    }
    return reference
  } finally {
    await context.close()
  }
}

async function fetchCommit(build: Build, parts: BuildParts, io: BuildIo): Promise<Commit> {
  const { source, store } = parts
  const commit = await logged(io, (log) =>
    source.fetch(build.repository, build.sha, { signal: io.signal, log }),
  )
  // Only for lists of builds, so nothing waits for it or fails.
  if (build.commit === null) store.describe(build.id, commit.info).catch(() => {})
  return commit
}

function openContext(build: Build, commit: Commit, { source }: BuildParts, io: BuildIo): Promise<Context> {
  const anonymous = build.fork !== undefined
  return logged(io, (log) => source.context(commit, { signal: io.signal, log, anonymous }))
}

/** Work that reports lines for the log. */
async function logged<T>(io: BuildIo, work: (log: (line: string) => void) => Promise<T>): Promise<T> {
  const lines: Promise<void>[] = []
  const say = linesTo(io.log)
  const result = await work((line) => {
    const said = say(line)
    said.catch(() => {}) // nothing waits for what is said later
    lines.push(said)
  })
  await Promise.all(lines)
  return result
}

/** Publishes an earlier image for this build. Null if the image turns out to be incomplete, and has to be built. */
async function publishReused(
  build: Build,
  imageName: string,
  image: RegistryImage,
  parts: BuildParts,
  step: StepIo,
): Promise<string | null> {
  try {
    return await publishAndStore(build, imageName, image, parts, step)
  } catch (error) {
    // The registry listed the manifest, but layers were garbage-collected, or it refuses to serve it.
    if (!(error instanceof ConveyorError && ['not_found', 'unauthorized'].includes(error.kind))) throw error
    await buildAfterAll(build, error, parts, step)
    return null
  }
}
