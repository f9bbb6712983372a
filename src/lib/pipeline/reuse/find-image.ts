import type { Artifact, Build } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { linesTo } from '../../core/one-line.ts'
import type { BuildSettings } from '../../core/settings.ts'
import { splitReference } from '../../registry/image-name.ts'
import type { Registry } from '../../registry/registry.ts'
import { Pace } from '../../util/pace.ts'
import type { RegistryImage } from '../image.ts'
import type { BuildIo, BuildParts, PreparedBuild } from '../parts.ts'
import { changedBase } from './base-images.ts'
import { platformFor, settingsKey } from './recipe.ts'

type Parts = Pick<BuildParts, 'store' | 'source' | 'builder' | 'registry'>

/**
 * A registry that is queried once per image, however many earlier builds share a base image. For the lookups of
 * one build.
 */
export function withCachedHeads(registry: Registry): Registry {
  const answers = new Map<string, Promise<string | null>>()
  return {
    ...registry,
    head(name, reference, signal) {
      const key = `${name} ${reference}`
      const answer = answers.get(key) ?? registry.head(name, reference, signal)
      answers.set(key, answer)
      return answer
    },
  }
}

/** How many earlier images of the same recipe are checked; they differ in their base images. */
const CANDIDATES = 5

/**
 * Finds an image of a commit with the same tree, if the tree is known before the commit is fetched: from the webhook,
 * or because this commit was built before. Logs one line if it finds one.
 */
export async function findByTree(
  build: Build,
  imageName: string,
  settings: BuildSettings,
  parts: Parts,
  io: BuildIo,
): Promise<RegistryImage | null> {
  const { repository, sha } = build
  // With a .git folder, the image depends on the commit and its tags, too.
  if (settings.git) return null
  const tree = build.tree ?? (await parts.store.newestArtifact(repository, sha))?.tree
  if (!tree) return null
  const candidates = await parts.store.artifactsByTree(repository, tree, CANDIDATES)
  if (candidates.length === 0) return null
  const wanted = settingsKey(settings, await platformFor(imageName, settings, parts))
  for (const artifact of candidates) {
    const { recipe } = artifact
    if (recipe?.settings !== wanted) continue
    const found = await check(artifact, imageName, parts, io.signal)
    if ('digest' in found) {
      await logReuse(artifact, build, io)
      return { ...found, recipe, tree }
    }
    // The reason is logged by findByRecipe, unless that finds another image.
    if (found.noAnswer) return null
  }
  return null
}

/**
 * Finds an image that was built from the same recipe, whose base images have not changed, and which the registry still
 * has: a build would produce the same again. Logs one line: what it found or, if nothing, what has changed since the
 * last build of the branch.
 */
export async function findByRecipe(
  prepared: PreparedBuild,
  parts: Parts,
  io: BuildIo,
): Promise<RegistryImage | null> {
  const { build, imageName, commit, recipe } = prepared
  const candidates = await parts.store.artifactsByRecipe(build.repository, recipe, CANDIDATES)
  let miss: string | undefined
  for (const artifact of candidates) {
    const found = await check(artifact, imageName, parts, io.signal)
    if ('digest' in found) {
      await logReuse(artifact, build, io)
      return { ...found, recipe, tree: commit.tree }
    }
    miss ??= found.why
    if (found.noAnswer) break
  }
  await linesTo(io.log)(`building: ${miss ?? (await difference(prepared, parts, io.signal))}`)
  return null
}

async function logReuse(artifact: Artifact, build: Build, { log }: BuildIo): Promise<void> {
  const same =
    artifact.sha === build.sha
      ? 'this commit was built before'
      : `same content as ${artifact.sha.slice(0, 7)}`
  await linesTo(log)(`nothing to build: ${same}, and its base images have not changed`)
}

/** Why an image cannot be reused. */
interface Miss {
  why: string
  /** A registry did not answer, so checking other images is pointless. */
  noAnswer?: boolean
}

type Usable = Pick<RegistryImage, 'origin' | 'digest' | 'bases'>

/** The image of an artifact, or why it cannot be reused. */
async function check(
  artifact: Artifact,
  imageName: string,
  parts: Parts,
  signal: AbortSignal,
): Promise<Usable | Miss> {
  const theBuild = `the build of ${artifact.sha.slice(0, 7)}`
  const { bases, image } = artifact
  const digest = splitReference(artifact.image).digestIn(imageName)
  if (digest === null) return { why: `${theBuild} was pushed under another name, ${image}` }
  if (!bases) {
    const what = 'ADD of a URL, a named context, or an image without a digest'
    return { why: `${theBuild} had external inputs that cannot be compared (${what})` }
  }
  const [changed, present] = await Promise.all([
    changedBase(bases, parts, signal),
    parts.registry.head(imageName, digest, signal).catch((error: unknown) => {
      signal.throwIfAborted()
      // A registry that cannot be read from may still accept the push of a new image.
      if (error instanceof ConveyorError) return error
      throw error
    }),
  ])
  if (changed) return { ...changed, why: `${changed.why} since ${theBuild}` }
  if (present instanceof ConveyorError) {
    const why = `could not check whether the registry still has the image of ${theBuild}: ${present.message}`
    return { why, noAnswer: true }
  }
  if (present === null) return { why: `the image of ${theBuild} is gone from the registry` }
  return { origin: 'reused', digest, bases }
}

/** What has changed since the last build of the same branch or, without one, of the repository. */
async function difference(
  { build, commit, context, recipe }: PreparedBuild,
  { store, source }: Parts,
  signal: AbortSignal,
): Promise<string> {
  const last =
    (await store.lastArtifact(build.repository, build.refs)) ??
    (await store.lastArtifact(build.repository, []))
  if (!last) return `the first build of ${build.repository}`
  const since = `since ${last.sha.slice(0, 7)}`
  if (!last.recipe) return `there is no record of what ${last.sha.slice(0, 7)} was built from`
  if (last.recipe.settings !== recipe.settings)
    return `the build settings (network, arguments, target and so on) changed ${since}`

  const changes = await source.changes(commit, last, signal)
  if (!changes) return `files changed ${since}`
  const pace = new Pace(signal)
  const inContext = new Set<string>()
  for (const entries of [context.entries, context.dockerfileEntries]) {
    await pace.forEach(entries, ({ path }) => inContext.add(path))
  }
  const files = await pace.filter(changes, ({ kind, path }) => kind === 'removed' || inContext.has(path))
  const shown = files
    .slice(0, 3)
    .map(({ path }) => path)
    .join(', ')
  const rest = files.length > 3 ? ` and ${files.length - 3} more` : ''
  return files.length > 0 ? `${shown}${rest} changed ${since}` : `files changed ${since}`
}
