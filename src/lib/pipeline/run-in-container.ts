import type { Build } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import { linesTo } from '../core/one-line.ts'
import { isPushed } from '../core/validate.ts'
import { splitReference } from '../registry/image-name.ts'
import type { RunInput, Runner } from '../runner/runner.ts'
import { Stopwatch } from '../util/stopwatch.ts'
import type { RegistryImage } from './image.ts'
import type { BuildIo, BuildParts } from './parts.ts'
import { buildAfterAll, type PublishParts, publishAndStore } from './publish.ts'
import { verifiedRefs } from './tags/containing-ref.ts'
import { restoreTags } from './tags/restore.ts'
import { wantedTags } from './tags/wanted.ts'

/** What a build in a container runs with. */
type ContainerParts = PublishParts &
  Pick<BuildParts, 'cacheNamespace' | 'dry' | 'readFromForge'> & { container: Runner }

/** What the image was built from is unknown: the builder image clones and builds on its own. */
const UNKNOWN = { recipe: null, bases: null, tree: null }

/**
 * Runs one attempt at a build in a container of a builder image, which clones, builds and pushes on its own, and stores
 * its success. The image knows nothing of other builds, so its tags are corrected here: in the end, none points at an
 * older push, whatever the image did and in whatever order builds finish.
 * @returns the image, `repo@sha256:...`
 * @throws ConveyorError saying what failed; nothing has been stored then. Kind `cancelled` if another worker has
 * taken over the build, or somebody cancelled it.
 */
export async function runInContainer(build: Build, parts: ContainerParts, io: BuildIo): Promise<string> {
  const { store, registry, names, latest, dry } = parts
  const step = { ...io, watch: new Stopwatch(io.observer, io.timeline) }
  const imageName = names.image(build.repository)

  // Look up.
  const known =
    dry || !build.cache ? null : await step.watch.measure('look up', builtBefore(build, imageName, parts, io))
  if (known) {
    await linesTo(io.log)(`nothing to build: ${build.sha.slice(0, 7)} was built before`)
    try {
      const image: RegistryImage = { origin: 'reused', digest: known, ...UNKNOWN }
      return await publishAndStore(build, imageName, image, parts, step)
    } catch (error) {
      // The registry listed the manifest, but layers were garbage-collected.
      if (!(error instanceof ConveyorError && error.kind === 'not_found')) throw error
      await buildAfterAll(build, error, parts, step)
    }
  }
  io.onBegin?.()
  if (io.onDockerfile && (await hasDockerfile(build, parts, io))) io.onDockerfile()

  try {
    // Build.
    const { refs } = await verifiedRefs(build, parts.history, io.signal)
    await step.watch.measure('build', parts.container.run(containerBuild({ ...build, refs }, parts), io))

    // Publish, and store.
    if (dry) return await publishAndStore(build, imageName, { origin: 'dry-run' }, parts, step)
    const digest = await registry.head(imageName, build.sha, io.signal)
    if (digest === null) throw notPushed(`${imageName}:${build.sha}`)
    const image: RegistryImage = { origin: 'builder-image', digest, ...UNKNOWN }
    return await publishAndStore(build, imageName, image, parts, step)
  } catch (error) {
    throw io.onDockerfile ? await withReason(error, build, parts, io) : error
  } finally {
    // Restore. The image may have pushed before it failed. And the image of an older push may have finished just before
    // this build's artifact was stored, so that only this build knows now where the tags belong.
    if (!dry) {
      const current = await store.get(build.id).catch(() => null)
      const wanted = wantedTags(current ?? build, latest, names)
      // The image may have moved `latest` even where only the default branch should.
      const tags = [...new Set([...wanted.map(({ tag }) => tag), 'latest'])]
      await restoreTags(build, imageName, tags, parts, io)
    }
  }
}

function containerBuild(
  { id, attempt, repository, sha, refs, cache }: Build,
  parts: ContainerParts,
): RunInput {
  // The image tags whatever branch it is given; merge queues get no tag, pull requests theirs when it is published.
  const pushed = refs.filter(isPushed)
  const ref = pushed.findLast(({ kind }) => kind === 'branch') ?? pushed.at(-1)
  return {
    buildId: id,
    attempt,
    repository,
    sha,
    branch: ref?.name ?? null,
    dry: parts.dry,
    cache,
    cacheNamespace: parts.cacheNamespace(repository),
  }
}

/** Whether the commit has a Dockerfile: only the builder image knows, but the forge can tell. True if it does not. */
async function hasDockerfile(
  { repository, sha }: Build,
  { readFromForge }: ContainerParts,
  { signal }: BuildIo,
): Promise<boolean> {
  if (!readFromForge) return true
  for (const path of ['Dockerfile', 'dockerfile']) {
    try {
      await readFromForge(repository, sha, path, signal)
      return true
    } catch (error) {
      if (!(error instanceof ConveyorError && error.kind === 'not_found')) return true
    }
  }
  return false
}

/** Adds to the error of a build that there is no Dockerfile, if that is so. */
async function withReason(
  error: unknown,
  build: Build,
  parts: ContainerParts,
  io: BuildIo,
): Promise<unknown> {
  const failed = error instanceof ConveyorError && error.kind === 'build_failed'
  if (!failed || (await hasDockerfile(build, parts, io))) return error
  return new ConveyorError(error.kind, `${error.message}; the commit has no Dockerfile`, {
    ...(error.hint !== undefined && { hint: error.hint }),
    code: 'no_dockerfile',
    cause: error,
  })
}

/** Digest of the image that this commit already has, if the registry still has it. */
async function builtBefore(
  build: Build,
  imageName: string,
  { store, registry }: ContainerParts,
  io: BuildIo,
): Promise<string | null> {
  const artifact = await store.newestArtifact(build.repository, build.sha)
  const digest = artifact && splitReference(artifact.image).digestIn(imageName)
  return digest ? registry.head(imageName, digest, io.signal) : null
}

function notPushed(reference: string): ConveyorError {
  return new ConveyorError('build_failed', `the builder image did not push ${reference}`, {
    hint: 'It must push the tag of the commit there: check --registry (REGISTRY) and where the image pushes to',
  })
}
