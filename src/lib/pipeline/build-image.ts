import type { BuiltImage } from '../builder/builder.ts'
import { ConveyorError } from '../core/errors.ts'
import { linesTo } from '../core/one-line.ts'
import { dockerfileText } from '../dockerfile/read.ts'
import { inOwnTurn } from '../util/own-turn.ts'
import { buildInput } from './build-input.ts'
import type { LocalImage, RegistryImage } from './image.ts'
import type { BuildParts, PreparedBuild, StepIo } from './parts.ts'
import { checkFrontend } from './pulls/forks.ts'
import { baseImages, imageReferences, resolveOutsideFrom } from './reuse/base-images.ts'
import { settingsKey } from './reuse/recipe.ts'
import { explainLater } from './timeline/explain.ts'

/**
 * Builds an image and pushes it under its sha; a dry run pushes nothing.
 * @param cacheFrom images to import the cache from, best first
 */
export async function buildImage(
  prepared: PreparedBuild,
  cacheFrom: Promise<string[]>,
  parts: BuildParts,
  io: StepIo,
): Promise<Pick<BuiltImage, 'steps'> & { image: RegistryImage | LocalImage }> {
  const { log, signal, watch, observer, timeline } = io
  const { imageName, commit, context, recipe, build } = prepared
  const dockerfile = dockerfileText(context, signal)
  const text = await dockerfile
  if (build.fork) checkFrontend(build, text)
  const references = await inOwnTurn(() => imageReferences(text, parts.settings(build.repository)))
  const before = resolveOutsideFrom(references, parts, signal)
  before.catch(() => {}) // awaited below, unless the build fails first
  const input = await buildInput(prepared, parts, {
    ...{ cacheFrom: await cacheFrom, push: !parts.dry },
    ...{ signal, dockerfile, before },
  })
  const tidied = parts.builder.tidy(imageName).catch(async (error: Error) => {
    const line = `warning: images of older builds could not be removed: ${error.message}`
    await linesTo(log)(line).catch(() => {}) // the build has failed meanwhile, and its log is closed
  })
  const explain = explainLater(prepared, text, parts, io)
  const building = parts.builder.build(input, { log, signal, ...(timeline && { onSteps: timeline.follow }) })
  const built = await watch
    .measure('build', building, ({ digest, pushMs }) =>
      digest === null ? null : { phase: 'push', ms: pushMs },
    )
    .catch(async (error) => {
      if (error instanceof ConveyorError && error.excerpt) timeline?.failedAt(error.excerpt)
      if (!signal.aborted) await explain(null)
      throw error
    })
  const { steps, transfer, digest } = built
  const sent = `${transfer.files} ${transfer.files === 1 ? 'file' : 'files'} sent`
  observer?.steps(steps)
  watch.note('build', `${steps.cached} of ${steps.total} steps cached, ${sent}`)
  if (digest === null) {
    await explain(null)
    return { image: { origin: 'dry-run' }, steps }
  }

  // It may have been built elsewhere than expected, for another platform.
  const made = { ...recipe, settings: settingsKey(parts.settings(build.repository), built.platform) }
  const bases = await baseImages(built.from, references, await before, parts, signal)
  await explain(bases)
  await tidied
  return { image: { origin: 'built', digest, recipe: made, tree: commit.tree, bases }, steps }
}
