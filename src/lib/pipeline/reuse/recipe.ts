import { createHash, type Hash } from 'node:crypto'
import type { Recipe } from '../../core/build.ts'
import type { Context, ContextEntry } from '../../source/source.ts'
import { Pace } from '../../util/pace.ts'

/** What is set outside of the repository and can change an image. */
export interface BuildSettings {
  buildArgs: Record<string, string>
  /** Network of RUN steps; null leaves it to the engine. */
  network: string | null
  /** Stage of the Dockerfile that is the image; null: the last. */
  target: string | null
  /** `linux/arm64` and so on; none: the builder's own. */
  platforms: string[]
  /** Addresses by name, for RUN steps. */
  hosts: Record<string, string>
  /** Limits of RUN steps by name, `SOFT[:HARD]`. */
  ulimits: Record<string, string>
  /** Where `FROM NAME` and `COPY --from=NAME` take what is no stage: `docker-image://...` or a URL, by name. */
  contexts: Record<string, string>
  /** What is said of the image beside it. */
  attest: Attestation[]
  /** Files in layers are no newer than the commit, so that the same build makes the same layers everywhere. */
  reproducible: boolean
  /** Socket of the ssh agent for `RUN --mount=type=ssh`; null for none. Like secrets no part of the recipe. */
  ssh: string | null
}

/** Where nothing is set. */
export const NO_SETTINGS: BuildSettings = {
  buildArgs: {},
  network: null,
  target: null,
  platforms: [],
  hosts: {},
  ulimits: {},
  contexts: {},
  attest: [],
  reproducible: false,
  ssh: null,
}

/** How it was made; which software is in it (a software bill of materials). */
type Attestation = 'provenance' | 'sbom'

/** The recipe of a context; see Recipe. Content counts by git's ids, so no file is read. */
export async function recipeOf(context: Context, settings: BuildSettings): Promise<Recipe> {
  const hash = createHash('sha256')
  await new Pace().forEach(context.entries, (entry) => addTo(hash, entry))
  return {
    context: hash.digest('hex'),
    dockerfile: dockerfileKey(context),
    settings: settingsKey(settings),
  }
}

/** The part of a recipe that is the Dockerfile. The ignore files count through the entries that they leave. */
export function dockerfileKey({ dockerfile, dockerfileEntries }: Context): string {
  return hashOf(
    dockerfileEntries.filter(({ path }) => !path.endsWith('.dockerignore')),
    [dockerfile],
  )
}

/** The part of a recipe that is known without its commit. */
export function settingsKey({ buildArgs, network, reproducible, ssh: _, ...rest }: BuildSettings): string {
  const sorted = (values: object) => Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1))
  // What is not set does not count, so that images made before it could be are still known.
  const more = sorted(rest)
    .map(([name, value]) => [name, value === null || Array.isArray(value) ? value : Object.entries(value)])
    .filter(([, value]) => value !== null && value.length > 0)
  const last = reproducible ? ['reproducible'] : []
  return hashOf([], [JSON.stringify([sorted(buildArgs), network, ...more, ...last])])
}

/** More than any Dockerfile that people write, in bytes. */
const LONGEST_DOCKERFILE = 1 << 20

/** The text of the Dockerfile; null when it is longer than 1 MiB, or there is none. */
export async function dockerfileText(context: Context, signal: AbortSignal): Promise<string | null> {
  const file = context.dockerfileEntries.find(
    ({ kind, path }) => kind === 'file' && !path.endsWith('.dockerignore'),
  )
  if (!file || file.size > LONGEST_DOCKERFILE) return null
  const pieces: Uint8Array[] = []
  for await (const piece of context.read(file, signal)) pieces.push(piece)
  return Buffer.concat(pieces).toString('utf8')
}

/** A hash in which no field can run into the next: each is preceded by its length. */
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
