import type { Build } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import { linesTo } from '../core/one-line.ts'
import { isMergeQueue } from '../core/validate.ts'
import type { BuildContainer, ContainerBuild } from '../runner/runner.ts'
import { Stopwatch } from '../util/stopwatch.ts'
import { finish, publish } from './publish.ts'
import type { BuildIo, BuildParts } from './run-build.ts'
import { restoreTags } from './tags/restore.ts'
import { provenRefs } from './tags/tie-breaker.ts'
import { wantedTags } from './tags/wanted.ts'

/** What a build in a container runs on. */
export type ImageParts = Pick<
  BuildParts,
  'store' | 'registry' | 'names' | 'cacheNamespace' | 'latest' | 'dry' | 'history'
> & {
  container: BuildContainer
}

/**
 * Runs one attempt at a build in a container of a builder image, which clones, builds and pushes by itself,
 * and stores its success. As the image knows nothing of other builds, the tags are looked after here: in
 * the end none is behind an older push, whatever the image did, and in whatever order builds end.
 * @returns the image, `repo@sha256:...`
 * @throws ConveyorError with what failed; nothing is stored then. Kind `cancelled` when another worker
 * has taken the build over.
 */
export async function runInImage(build: Build, parts: ImageParts, io: BuildIo): Promise<string> {
  const { store, registry, names, latest, dry } = parts
  const watch = new Stopwatch()
  const say = linesTo(io.log)
  const imageName = names.image(build.repository)
  const unknown = { build, imageName, recipe: null, bases: null, tree: null }
  const restore = (tags: string[]) => restoreTags(build, imageName, tags, parts, io)

  const known =
    dry || !build.cache ? null : await watch.measure('look up', builtBefore(build, imageName, parts, io))
  if (known) {
    await say(`nothing to build: ${build.sha.slice(0, 7)} was built before`)
    try {
      return await publish({ ...unknown, digest: known, pushed: false }, parts, io, watch)
    } catch (error) {
      // The registry had the manifest, but a garbage collection took layers of it.
      if (!(error instanceof ConveyorError && error.kind === 'not_found')) throw error
      await say(`building after all: ${error.message}`)
    }
  }

  io.onBegin?.()
  // The image may have moved `latest` also where only other branches' builds should.
  const mayHaveMoved = async () => {
    const wanted = wantedTags((await store.get(build.id)) ?? build, latest, names)
    return [...new Set([...wanted.map(({ tag }) => tag), 'latest'])]
  }
  try {
    const { refs } = await provenRefs(build, parts.history, io.signal)
    await watch.measure('build', parts.container.run(containerBuild({ ...build, refs }, parts), io))
    if (dry) {
      await say('', `${watch}`, 'dry run: nothing was pushed')
      return await finish(build, parts, { image: `${imageName}:${build.sha}` }, async () => [])
    }
    const digest = await registry.head(imageName, build.sha, io.signal)
    if (digest === null) throw notPushed(`${imageName}:${build.sha}`)
    return await publish({ ...unknown, digest, pushed: true }, parts, io, watch, restore)
  } finally {
    // It may have pushed before it failed. And the image of an older push may have ended just before this
    // build's artifact was stored, so that only this build can know now where the tags belong.
    if (!dry) await restore(await mayHaveMoved())
  }
}

function containerBuild({ id, repository, sha, refs, cache }: Build, parts: ImageParts): ContainerBuild {
  // As the image makes a tag of what it is told, that is nothing that gets none.
  const pushed = refs.filter((ref) => !isMergeQueue(ref))
  const ref = pushed.findLast(({ kind }) => kind === 'branch') ?? pushed.at(-1)
  return {
    buildId: id,
    repository,
    sha,
    branch: ref?.name ?? null,
    dry: parts.dry,
    cache,
    cacheNamespace: parts.cacheNamespace(repository),
  }
}

/** Digest of the image that this commit has already, if the registry still has it. */
async function builtBefore(
  build: Build,
  imageName: string,
  { store, registry }: ImageParts,
  io: BuildIo,
): Promise<string | null> {
  const artifact = await store.newestArtifact(build.repository, build.sha)
  const [name, digest] = artifact?.image.split('@') ?? []
  if (name !== imageName || digest === undefined) return null
  return registry.head(imageName, digest, io.signal)
}

function notPushed(reference: string): ConveyorError {
  return new ConveyorError('build_failed', `the builder image has not pushed ${reference}`, {
    hint: 'It has to push the tag of the commit there: check --registry (REGISTRY), and where the image pushes to',
  })
}
