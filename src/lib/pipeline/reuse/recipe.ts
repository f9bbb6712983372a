import { createHash, type Hash } from 'node:crypto'
import type { Builder } from '../../builder/builder.ts'
import type { Recipe } from '../../core/build.ts'
import type { BuildSettings } from '../../core/settings.ts'
import type { Context, ContextEntry } from '../../source/source.ts'
import { Pace } from '../../util/pace.ts'

/**
 * The recipe of a context; see Recipe. Files count by their git object ids, so none is read.
 * @param platform the builder's own; see settingsKey
 */
export async function recipeOf(
  context: Context,
  settings: BuildSettings,
  platform: string | null,
): Promise<Recipe> {
  const hash = createHash('sha256')
  await new Pace().forEach(context.entries, (entry) => addTo(hash, entry))
  return {
    context: hash.digest('hex'),
    dockerfile: dockerfileKey(context),
    settings: settingsKey(settings, platform),
  }
}

/**
 * The Dockerfile's part of a recipe: the file itself, and the folders that it is in. Ignore files count through the
 * entries that they exclude.
 */
export function dockerfileKey({ dockerfile, dockerfileEntry, dockerfileEntries }: Context): string {
  const file = `${dockerfileEntry.path}/`
  return hashOf(
    dockerfileEntries.filter(({ path }) => file.startsWith(`${path}/`)),
    [dockerfile],
  )
}

/** The platform of images that are built for no particular one; null if that does not matter, or is not known. */
export async function platformFor(
  imageName: string,
  { platforms }: BuildSettings,
  { builder }: { builder: Pick<Builder, 'platform'> },
): Promise<string | null> {
  return platforms.length > 0 ? null : builder.platform(imageName)
}

/** The recipes of older versions say nothing about it, and most of their images are for this one. */
const USUAL_PLATFORM = 'linux/amd64'

/**
 * The settings' part of a recipe. The arguments of withGitArgs count as what they are: build arguments.
 * @param platform the builder's own, where it counts: without platforms in the settings
 */
export function settingsKey(
  { buildArgs, network, reproducible, ssh: _, gitArgs: __, git, ...rest }: BuildSettings,
  platform: string | null = null,
): string {
  const sorted = (values: object) => Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1))
  // Settings at their default are left out, so that a new setting does not invalidate the recipes of older images.
  const more = sorted(rest)
    .map(([name, value]) => [name, value === null || Array.isArray(value) ? value : Object.entries(value)])
    .filter(([, value]) => value !== null && value.length > 0)
  const own = rest.platforms.length > 0 || platform === USUAL_PLATFORM ? null : platform
  const last = [...(reproducible ? ['reproducible'] : []), ...(git ? ['git'] : []), ...(own ? [own] : [])]
  return hashOf([], [JSON.stringify([sorted(buildArgs), network, ...more, ...last])])
}

/** Each field is preceded by its length, so that no two lists of fields hash alike by concatenation. */
function hashOf(entries: ContextEntry[], texts: string[] = []): string {
  const hash = createHash('sha256')
  for (const text of texts) hash.update(`${Buffer.byteLength(text)}:${text}`)
  for (const entry of entries) addTo(hash, entry)
  return hash.digest('hex')
}

function addTo(hash: Hash, { rawPath, kind, mode, contentId, linkTarget }: ContextEntry): void {
  hash.update(`${kind} ${mode} ${rawPath.length} ${linkTarget.length} ${contentId}\n`)
  hash.update(rawPath).update(linkTarget)
}
