import type { Builder } from '../../builder/builder.ts'
import type { Artifact, BaseImage, Build, Recipe } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { linesTo } from '../../core/one-line.ts'
import type { BuildSettings } from '../../core/settings.ts'
import type { Registry } from '../../registry/registry.ts'
import type { Source } from '../../source/source.ts'
import type { BuildStore } from '../../store/build-store.ts'
import type { BuildIo, BuildOrder } from '../run-build.ts'
import { changedBase } from './base-images.ts'
import { settingsKey } from './recipe.ts'

/** An image that need not be built. */
export interface KnownImage {
  digest: string
  bases: BaseImage[] | null
}

/** What it was made from, too. */
export interface EarlierImage extends KnownImage {
  recipe: Recipe
  tree: string
}

interface Parts {
  store: BuildStore
  source: Source
  builder: Builder
  registry: Registry
}

/**
 * A registry that is asked once for each image, however many earlier builds have it as a base: for the look-ups of
 * one build.
 */
export function askedOnce(registry: Registry): Registry {
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

/** How many earlier images of the same recipe are looked at; they differ in their base images. */
const CANDIDATES = 5

/**
 * Looks for an image of a commit with the same tree, if the tree is known before the commit is fetched: from
 * the webhook, or because this commit was built before. Says in one line what it found, if anything.
 */
export async function findSameTree(
  build: Build,
  imageName: string,
  settings: BuildSettings,
  parts: Parts,
  io: BuildIo,
): Promise<EarlierImage | null> {
  const { repository, sha } = build
  const tree = build.tree ?? (await parts.store.newestArtifact(repository, sha))?.tree
  if (!tree) return null
  for (const artifact of await parts.store.artifactsByTree(repository, tree, CANDIDATES)) {
    const { recipe } = artifact
    if (recipe?.settings !== settingsKey(settings)) continue
    const found = await stillGood(artifact, imageName, parts, io.signal)
    if ('digest' in found) {
      await sayReused(artifact, build, io)
      return { ...found, recipe, tree }
    }
    // Why not is said once the files are there, unless another image is found by them.
    if (found.silent) return null
  }
  return null
}

/**
 * Looks for an image that was made from the same recipe before, whose base images are still what they
 * were, and which the registry still has: building would give the same again. Says in one line what it
 * found or, if nothing, what is different from the last build of the branch.
 */
export async function findImage(order: BuildOrder, parts: Parts, io: BuildIo): Promise<KnownImage | null> {
  const { build, imageName, recipe } = order
  const say = linesTo(io.log)
  const candidates = await parts.store.artifactsByRecipe(build.repository, recipe, CANDIDATES)
  let miss: string | undefined
  for (const artifact of candidates) {
    const found = await stillGood(artifact, imageName, parts, io.signal)
    if ('digest' in found) {
      await sayReused(artifact, build, io)
      return found
    }
    miss ??= found.why
    if (found.silent) break
  }
  await say(`building: ${miss ?? (await difference(order, parts))}`)
  return null
}

async function sayReused(artifact: Artifact, build: Build, { log }: BuildIo): Promise<void> {
  const same =
    artifact.sha === build.sha
      ? 'this commit was built before'
      : `same content as ${artifact.sha.slice(0, 7)}`
  await linesTo(log)(`nothing to build: ${same}, and its base images have not changed`)
}

/** Digest of an artifact's image, `sha256:...`; null when it was pushed under another name, or not at all. */
export function digestUnder(imageName: string, { image }: Artifact): string | null {
  return image.startsWith(`${imageName}@`) ? image.slice(imageName.length + 1) : null
}

/** Why an image cannot be used. */
interface Miss {
  why: string
  /** A registry does not say what it has, so that asking for others is no use. */
  silent?: boolean
}

/** The image of an artifact, or why it cannot be used. */
async function stillGood(
  artifact: Artifact,
  imageName: string,
  parts: Parts,
  signal: AbortSignal,
): Promise<KnownImage | Miss> {
  const of = `the build of ${artifact.sha.slice(0, 7)}`
  const { bases, image } = artifact
  const digest = digestUnder(imageName, artifact)
  if (digest === null) return { why: `${of} had another name, ${image}` }
  if (!bases) {
    const what = 'ADD of a URL, a named context, or an image without a digest'
    return { why: `what ${of} took from outside cannot be compared (${what})` }
  }
  const [changed, present] = await Promise.all([
    changedBase(bases, parts, signal),
    parts.registry.head(imageName, digest, signal).catch((error: unknown) => {
      signal.throwIfAborted()
      // To build, it may be enough to push.
      if (error instanceof ConveyorError) return error
      throw error
    }),
  ])
  if (changed) return { ...changed, why: `${changed.why} since ${of}` }
  if (present instanceof ConveyorError) {
    const why = `the registry does not say whether it still has the image of ${of}: ${present.message}`
    return { why, silent: true }
  }
  if (present === null) return { why: `the image of ${of} is gone from the registry` }
  return { digest, bases }
}

/** What is different from the last build of the same branch, or of the repository. */
async function difference({ build, commit, context, recipe }: BuildOrder, parts: Parts): Promise<string> {
  const last =
    (await parts.store.lastArtifact(build.repository, build.refs)) ??
    (await parts.store.lastArtifact(build.repository, []))
  if (!last) return `the first build of ${build.repository}`
  const since = `since ${last.sha.slice(0, 7)}`
  if (!last.recipe) return `what ${last.sha.slice(0, 7)} was built from is not known`
  if (last.recipe.settings !== recipe.settings)
    return `the build settings (network, arguments, target and so on) changed ${since}`

  const changes = await parts.source.changes(commit, last)
  if (!changes) return `files changed ${since}`
  const inContext = new Set([...context.entries, ...context.dockerfileEntries].map(({ path }) => path))
  const paths = changes
    .filter(({ kind, path }) => kind === 'removed' || inContext.has(path))
    .map(({ path }) => path)
  const shown = paths.slice(0, 3).join(', ')
  const rest = paths.length > 3 ? ` and ${paths.length - 3} more` : ''
  return paths.length > 0 ? `${shown}${rest} changed ${since}` : `files changed ${since}`
}
