import { createHash, type Hash } from 'node:crypto'
import type { Recipe } from '../../core/build.ts'
import type { BuildSettings } from '../../core/settings.ts'
import type { Context, ContextEntry } from '../../source/source.ts'
import { Pace } from '../../util/pace.ts'

/** The recipe of a context; see Recipe. Files count by their git object ids, so none is read. */
export async function recipeOf(context: Context, settings: BuildSettings): Promise<Recipe> {
  const hash = createHash('sha256')
  await new Pace().forEach(context.entries, (entry) => addTo(hash, entry))
  return {
    context: hash.digest('hex'),
    dockerfile: dockerfileKey(context),
    settings: settingsKey(settings),
  }
}

/** The Dockerfile's part of a recipe. Ignore files count through the entries that they exclude. */
export function dockerfileKey({ dockerfile, dockerfileEntries }: Context): string {
  return hashOf(
    dockerfileEntries.filter(({ path }) => !path.endsWith('.dockerignore')),
    [dockerfile],
  )
}

/** The settings' part of a recipe. The arguments of withGitArgs count as what they are: build arguments. */
export function settingsKey({
  buildArgs,
  network,
  reproducible,
  ssh: _,
  gitArgs: __,
  git,
  ...rest
}: BuildSettings): string {
  const sorted = (values: object) => Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1))
  // Settings at their default are left out, so that a new setting does not invalidate the recipes of older images.
  const more = sorted(rest)
    .map(([name, value]) => [name, value === null || Array.isArray(value) ? value : Object.entries(value)])
    .filter(([, value]) => value !== null && value.length > 0)
  const last = [...(reproducible ? ['reproducible'] : []), ...(git ? ['git'] : [])]
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
