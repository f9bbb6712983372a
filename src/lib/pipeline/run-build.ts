import type { BuildInput, BuiltImage } from '../builder/builder.ts'
import type { Build, Recipe } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import { linesTo } from '../core/one-line.ts'
import type { LatestPolicy } from '../core/settings.ts'
import { isMergeQueue } from '../core/validate.ts'
import { copiedEarly } from '../dockerfile/copied-early.ts'
import { dockerfileText } from '../dockerfile/read.ts'
import type { LogWriter } from '../logs/log-store.ts'
import type { ImageNames, Registry } from '../registry/registry.ts'
import type { BuildContainer } from '../runner/runner.ts'
import type { Commit, Context, History, Source } from '../source/source.ts'
import type { BuildStore } from '../store/build-store.ts'
import { Stopwatch } from '../util/stopwatch.ts'
import { CacheImport } from './cache/import.ts'
import { syncBasis } from './cache/inputs-key.ts'
import type { EarlyParts } from './cache/prefetch-bases.ts'
import { finish, publish } from './publish.ts'
import { baseImages, imagesNamedOutsideOfFrom, namingOf } from './reuse/base-images.ts'
import { askedOnce, type EarlierImage, findImage, findSameTree, type KnownImage } from './reuse/find-image.ts'
import { recipeOf } from './reuse/recipe.ts'
import { runInImage } from './run-in-container.ts'

/** The parts that a build runs on. */
export interface BuildParts extends EarlyParts {
  store: BuildStore
  source: Source
  /** Where there is one, it runs the builds, and `source` and `builder` are not asked. */
  container?: BuildContainer
  /** Asked where it is in doubt which of two pushes is newer. */
  history: History
  registry: Registry
  names: ImageNames
  /** Web address of a repository, for the image's labels. */
  sourceUrl(repository: string): string
  /** Values for `RUN --mount=type=secret` of a repository; the log never shows them. */
  secrets(repository: string): Promise<Record<string, Uint8Array>>
  /** Proxies for the steps of builds, by variable: `HTTP_PROXY` and the like. No part of what an image is made of. */
  proxies(): Promise<Record<string, string>>
  /** Namespace of a repository's cache mounts; see pipeline/cache/namespace.ts. */
  cacheNamespace(repository: string): string
  latest: LatestPolicy
  /** Build, but push nothing. */
  dry: boolean
}

export interface BuildIo {
  log: LogWriter
  signal: AbortSignal
  /** Told when no image is reused at once, so that the build takes its time. */
  onBegin?: () => void
}

/**
 * Runs one attempt at a build, from the commit to the published tags, and stores its success.
 * @returns the image, `repo@sha256:...`
 * @throws ConveyorError with what failed; nothing is stored then. Kind `cancelled` when another worker
 * has taken the build over.
 */
export async function runBuild(build: Build, parts: BuildParts, io: BuildIo): Promise<string> {
  const { container } = parts
  if (container) return runInImage(build, { ...parts, container }, io)
  const watch = new Stopwatch()
  const say = linesTo(io.log)
  const imageName = parts.names.image(build.repository)
  await using cache = new CacheImport(build, imageName, parts, io)

  const settings = parts.settings(build.repository)
  const mayReuse = !parts.dry && build.cache
  const lookups = { ...parts, registry: askedOnce(parts.registry) }
  /** Null when the image is incomplete after all. */
  const reuse = async (known: EarlierImage) => {
    try {
      return await publish({ build, imageName, ...known, pushed: false }, parts, io, watch)
    } catch (error) {
      // The registry had the manifest, but a garbage collection took layers of it; or it does not give it away.
      if (!(error instanceof ConveyorError && ['not_found', 'unauthorized'].includes(error.kind))) throw error
      await say(`building after all: ${error.message}`)
      return null
    }
  }

  const earlier = mayReuse
    ? await watch.measure('look up', findSameTree(build, imageName, settings, lookups, io))
    : null
  const reused = earlier && (await reuse(earlier))
  if (reused) return reused
  io.onBegin?.()

  const commit = await watch.measure('fetch', fetchCommit(build, parts.source, io))
  const context = await watch.measure('context', parts.source.context(commit, { signal: io.signal }))
  watch.note('context', counted(context.entries.length, 'entry', 'entries'))
  const recipe = await recipeOf(context, settings)
  const order = { build, imageName, commit, context, recipe }
  const { tree } = commit
  try {
    const known = mayReuse && !earlier ? await watch.measure('look up', findImage(order, lookups, io)) : null
    const image = known && (await reuse({ ...known, recipe, tree }))
    if (image) return image
    const made = await buildImage({ ...order, cacheFrom: cache.sources }, parts, io, watch)
    if (made) {
      const published = { build, imageName, ...made, recipe, tree, pushed: true }
      const name = await publish(published, parts, io, watch)
      if (made.steps.cached < made.steps.total) {
        parts.builder.saveCache(imageName, () => cacheInput(order, parts))
      }
      return name
    }
    await say('', `${watch}`, `dry run: built ${imageName}:${build.sha}, nothing was pushed`)
    return await finish(build, parts, { image: `${imageName}:${build.sha}` }, async () => [])
  } finally {
    await context.close()
  }
}

/** Everything that says what is to be built. */
export interface BuildOrder {
  build: Build
  imageName: string
  commit: Commit
  context: Context
  recipe: Recipe
}

/** Builds the image and pushes it under its sha; null after a dry run, which pushes nothing. */
async function buildImage(
  order: BuildOrder & { cacheFrom: Promise<string[]> },
  parts: BuildParts,
  io: BuildIo,
  watch: Stopwatch,
): Promise<(KnownImage & Pick<BuiltImage, 'steps'>) | null> {
  const text = dockerfileText(order.context, io.signal)
  const naming = namingOf(await text, parts.settings(order.build.repository))
  const before = imagesNamedOutsideOfFrom(naming, parts, io.signal)
  before.catch(() => {}) // awaited below, unless the build fails first
  const input = await buildInput(order, parts, await order.cacheFrom, !parts.dry, io.signal, text)
  const tidied = parts.builder.tidy(order.imageName).catch(async (error: Error) => {
    await linesTo(io.log)(`warning: images of older builds could not be removed: ${error.message}`)
  })
  const built = await watch.measure('build', parts.builder.build(input, io))
  const { steps, transfer, digest, pushMs } = built
  watch.note(
    'build',
    `${steps.cached} of ${steps.total} steps cached, ${counted(transfer.files, 'file', 'files')} sent`,
  )
  if (digest === null) return null
  watch.split('build', 'push', pushMs)
  const bases = await baseImages(built.from, naming, await before, parts, io.signal)
  await tidied
  return { digest, bases, steps }
}

/** What the builder is to make of a commit. */
export async function buildInput(
  order: Omit<BuildOrder, 'recipe' | 'build'> & {
    build: Pick<Build, 'repository' | 'sha' | 'refs' | 'cache'>
  },
  parts: BuildParts,
  cacheFrom: string[],
  push: boolean,
  signal: AbortSignal,
  text = dockerfileText(order.context, signal),
): Promise<BuildInput> {
  const { build, imageName, commit, context } = order
  const settings = parts.settings(build.repository)
  // Without a cache, every step may make something else of the same files.
  const basis = build.cache ? syncBasis(context, text, settings, parts, signal) : Promise.resolve(null)
  const early = text.then(copiedEarly)
  for (const later of [basis, early]) later.catch(() => {}) // awaited when the files are asked for
  return {
    context,
    reference: `${imageName}:${build.sha}`,
    push,
    cacheKey: build.repository.toLowerCase(),
    cacheNamespace: parts.cacheNamespace(build.repository),
    sync: { records: parts.store.syncs, basis, early },
    cache: build.cache,
    cacheFrom,
    labels: labels(build, commit, parts.sourceUrl(build.repository)),
    ...settings,
    buildArgs: { ...(await parts.proxies()), ...settings.buildArgs },
    secrets: await parts.secrets(build.repository),
    epoch: Math.floor(Date.parse(commit.committedAt) / 1000),
  }
}

/**
 * What the builder is to keep in the registry for workers that have nothing of the repository: the steps of
 * the default branch, which most builds share; of another branch only where there is nothing yet.
 */
async function cacheInput(order: BuildOrder, parts: BuildParts): Promise<BuildInput | null> {
  const { build, imageName, commit } = order
  const { builder, registry, source } = parts
  const main = build.defaultBranch
  if (main && !build.refs.some(({ kind, name }) => kind === 'branch' && name === main)) {
    const tag = await builder.cacheTag()
    if (tag && (await registry.head(imageName, tag)) !== null) return null
  }
  const { signal } = new AbortController()
  const input = await buildInput(
    { ...order, context: await source.context(commit) },
    parts,
    [],
    false,
    signal,
  )
  // With a copy of the files of its own: the next build need not wait for this one to let go of them.
  return { ...input, cacheKey: `${input.cacheKey}#cache` }
}

async function fetchCommit(build: Build, source: Source, io: BuildIo): Promise<Commit> {
  const lines: Promise<void>[] = []
  const say = linesTo(io.log)
  const log = (line: string) => void lines.push(say(line))
  const commit = await source.fetch(build.repository, build.sha, { signal: io.signal, log })
  await Promise.all(lines)
  return commit
}

/** Labels of the OCI image spec (annotations.md). They come from the commit alone: same sha, same labels. */
function labels(build: Pick<Build, 'sha' | 'refs'>, commit: Commit, source: string): Record<string, string> {
  // Of a merge queue's branch nobody has heard when the image is that of the branch it was merged into.
  const ref = build.refs.find((one) => !isMergeQueue(one))
  return {
    'org.opencontainers.image.source': source,
    'org.opencontainers.image.revision': build.sha,
    'org.opencontainers.image.created': commit.committedAt,
    ...(ref ? { 'org.opencontainers.image.ref.name': ref.name } : {}),
  }
}

function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`
}
