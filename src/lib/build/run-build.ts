import type { Builder } from '../builder/builder.ts'
import { ConveyorError } from '../errors.ts'
import type { LogWriter } from '../logs/log-store.ts'
import type { ImageNames, Registry } from '../registry/registry.ts'
import type { Commit, Context, Source } from '../source/source.ts'
import type { BuildStore } from '../store/build-store.ts'
import { type Build, shortName } from './build.ts'
import { type LatestPolicy, publishTags, wantedTags } from './publish.ts'
import { Stopwatch } from './stopwatch.ts'

/** The parts that a build runs on. */
export interface BuildParts {
  store: BuildStore
  source: Source
  builder: Builder
  registry: Registry
  names: ImageNames
  /** Web address of a repository, for the image's labels. */
  sourceUrl(repository: string): string
  /** Values for `RUN --mount=type=secret` of a repository; the log never shows them. */
  secrets(repository: string): Promise<Record<string, Uint8Array>>
  latest: LatestPolicy
  /** Build, but push nothing. */
  dry: boolean
  /** Network of RUN steps; null leaves it to the engine. */
  network: string | null
}

export interface BuildIo {
  log: LogWriter
  signal: AbortSignal
}

/**
 * Runs one attempt at a build, from the commit to the published tags, and stores its success.
 * @returns the image, `repo@sha256:...`
 * @throws ConveyorError with what failed; nothing is stored then. Kind `cancelled` when another worker
 * has taken the build over.
 */
export async function runBuild(build: Build, parts: BuildParts, io: BuildIo): Promise<string> {
  const watch = new Stopwatch()
  const say = (line: string) => io.log.write(`${line}\n`)
  const imageName = parts.names.image(build.repository)

  const known = build.cache ? await publishedImage(build, imageName, parts, io) : null
  const digest = known ?? (await buildAndPush(build, imageName, parts, io, watch))
  if (digest === null) return finish(build, parts, `${imageName}:${build.sha}`, async () => [])

  const image = `${imageName}@${digest}`
  await finish(build, parts, image, async (current) => {
    const wanted = wantedTags(current, parts.latest, parts.names)
    const moved = await watch.measure('tag', publishTags(parts, imageName, digest, wanted, io.signal))
    for (const { tag } of wanted) {
      if (!moved.includes(tag)) await say(`tag ${tag} stays where it is: it points at a newer push`)
    }
    const tags = [build.sha, ...moved]
    // Before the end is stored, so that no crash leaves the log of a succeeded build without it.
    await say(`\n${watch}\ntags ${tags.join(', ')}\nimage ${image}`)
    return tags.map((tag) => `${imageName}:${tag}`)
  })
  return image
}

/** The digest that this commit was published under before, if the registry still has it. */
async function publishedImage(
  build: Build,
  imageName: string,
  parts: BuildParts,
  { log, signal }: BuildIo,
): Promise<string | null> {
  const say = (line: string) => log.write(`${line}\n`)
  const artifact = await parts.store.newestArtifact(build.repository, build.sha)
  const digest = artifact?.image.startsWith(`${imageName}@`)
    ? artifact.image.slice(imageName.length + 1)
    : null
  if (!digest || parts.dry) return null
  if ((await parts.registry.head(imageName, digest, signal)) === null) {
    await say(`${digest} was built from this commit before, but is gone from the registry: building it anew`)
    return null
  }
  await say(`this commit was built before: ${imageName}@${digest}`)
  return digest
}

/** Builds the image and pushes it under its sha. @returns its digest, or null on a dry run */
async function buildAndPush(
  build: Build,
  imageName: string,
  parts: BuildParts,
  io: BuildIo,
  watch: Stopwatch,
): Promise<string | null> {
  const { log, signal } = io
  const reference = `${imageName}:${build.sha}`
  const cacheFrom = cacheSources(build, imageName, parts, io)
  cacheFrom.catch(() => {}) // awaited below, unless the fetch fails first

  const [commit, context] = await watch.measure('fetch', openContext(build, parts.source, io))
  try {
    const secrets = await parts.secrets(build.repository)
    const built = await watch.measure(
      'build',
      parts.builder.build(
        {
          context,
          reference,
          cacheKey: build.repository.toLowerCase(),
          cache: build.cache,
          cacheFrom: await cacheFrom,
          labels: labels(build, commit, parts.sourceUrl(build.repository)),
          buildArgs: {},
          secrets,
          network: parts.network,
        },
        io,
      ),
    )
    watch.note('build', `${built.steps.cached} of ${built.steps.total} steps cached`)
    watch.note('fetch', `${context.entries.length} entries, ${built.transfer.files} sent to the engine`)
    if (parts.dry) {
      await log.write(`\n${watch}\ndry run: built ${reference} (${built.imageId}), nothing was pushed\n`)
      return null
    }
    signal.throwIfAborted()
    return await watch.measure('push', parts.builder.push(reference, io))
  } finally {
    await context.close()
  }
}

async function openContext(build: Build, source: Source, io: BuildIo): Promise<[Commit, Context]> {
  const lines: Promise<void>[] = []
  const log = (line: string) => void lines.push(io.log.write(`${line}\n`))
  const commit = await source.fetch(build.repository, build.sha, { signal: io.signal, log })
  await Promise.all(lines)
  return [commit, await source.context(commit, { signal: io.signal })]
}

/**
 * Images to import layers from: only where the engine has none of this repository (importing costs
 * more than it gives otherwise), and only those that exist.
 */
async function cacheSources(
  build: Build,
  imageName: string,
  parts: BuildParts,
  { log, signal }: BuildIo,
): Promise<string[]> {
  if (!build.cache || (await parts.builder.isWarm(imageName))) return []
  const refs = build.refs.toReversed()
  const branch = build.defaultBranch && { kind: 'branch' as const, name: build.defaultBranch, sequence: 0 }
  const tags = wantedTags({ ...build, refs: branch ? [...refs, branch] : refs }, 'always', parts.names).map(
    ({ tag }) => tag,
  )
  const found = await Promise.all(
    tags.map(async (tag) => {
      try {
        const digest = await parts.registry.head(imageName, tag, signal)
        return digest && { digest, reference: `${imageName}:${tag}` }
      } catch (error) {
        signal.throwIfAborted()
        // The push will meet the same registry, and say so if it is truly broken.
        await log.write(`no cache from ${imageName}:${tag}: ${(error as Error).message}\n`)
        return null
      }
    }),
  )
  const byDigest = new Map(found.flatMap((image) => (image ? [[image.digest, image.reference]] : [])))
  return [...byDigest.values()]
}

/** Labels of the OCI image spec (annotations.md). They come from the commit alone: same sha, same labels. */
function labels(build: Build, commit: Commit, source: string): Record<string, string> {
  const ref = build.refs[0]
  return {
    'org.opencontainers.image.source': source,
    'org.opencontainers.image.revision': build.sha,
    'org.opencontainers.image.created': commit.committedAt,
    ...(ref ? { 'org.opencontainers.image.ref.name': ref.name } : {}),
  }
}

/** Publishes for every ref that the build has by then, and stores the success. */
async function finish(
  build: Build,
  parts: BuildParts,
  image: string,
  publish: (current: Build) => Promise<string[]>,
): Promise<string> {
  for (;;) {
    const current = await parts.store.get(build.id)
    if (!current || current.attempt !== build.attempt) break
    const tags = await publish(current)
    const result = { state: 'succeeded', image, tags } as const
    const answer = await parts.store.finish(build.id, build.attempt, current.refs.length, result)
    if (answer === 'finished') return image
    if (answer === 'superseded') break
    // Another ref joined while we published: publish that one too.
  }
  throw new ConveyorError('cancelled', `another worker has taken over ${shortName(build)}`)
}
