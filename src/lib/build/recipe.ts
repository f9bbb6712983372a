import { createHash } from 'node:crypto'
import type { Context, ContextEntry } from '../source/source.ts'
import type { Recipe } from './build.ts'

/** What is set outside of the repository and can change an image. */
export interface RecipeSettings {
  buildArgs: Record<string, string>
  /** Network of RUN steps. */
  network: string | null
}

/** The recipe of a context; see Recipe. Content counts by git's ids, so no file is read. */
export function recipeOf(context: Context, settings: RecipeSettings): Recipe {
  return {
    context: hashOf(context.entries),
    // The ignore files count through the entries that they leave.
    dockerfile: hashOf(
      context.dockerfileEntries.filter(({ path }) => !path.endsWith('.dockerignore')),
      [context.dockerfile],
    ),
    settings: settingsKey(settings),
  }
}

/** The part of a recipe that is known without its commit. */
export function settingsKey({ buildArgs, network }: RecipeSettings): string {
  const args = Object.entries(buildArgs).sort(([a], [b]) => (a < b ? -1 : 1))
  return hashOf([], [JSON.stringify([args, network])])
}

/** The text of the Dockerfile. */
export async function dockerfileText(context: Context, signal: AbortSignal): Promise<string> {
  const file = context.dockerfileEntries.find(
    ({ kind, path }) => kind === 'file' && !path.endsWith('.dockerignore'),
  )
  if (!file) return ''
  const pieces: Uint8Array[] = []
  for await (const piece of context.read(file, signal)) pieces.push(piece)
  return Buffer.concat(pieces).toString('utf8')
}

/** A hash in which no field can run into the next: each is preceded by its length. */
function hashOf(entries: ContextEntry[], texts: string[] = []): string {
  const hash = createHash('sha256')
  for (const text of texts) hash.update(`${Buffer.byteLength(text)}:${text}`)
  for (const { rawPath, kind, mode, contentId, linkTarget } of entries) {
    hash.update(`${kind} ${mode} ${rawPath.length} ${linkTarget.length} ${contentId}\n`)
    hash.update(rawPath).update(linkTarget)
  }
  return hash.digest('hex')
}
