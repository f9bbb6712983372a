import type { BaseImage, Build, Ref } from '../../core/build.ts'
import { linesTo } from '../../core/one-line.ts'
import type { MadeFrom, Step } from '../../core/timeline.ts'
import type { Instruction } from '../../dockerfile/instructions.ts'
import { instructionsOf } from '../../dockerfile/outline.ts'
import type { Commit, ContextEntry } from '../../source/source.ts'
import type { BuildStore } from '../../store/build-store.ts'
import { inOwnTurn } from '../../util/own-turn.ts'
import type { BuildIo, BuildParts, PreparedBuild } from '../parts.ts'
import { type EarlierBuild, findMissed, missedLine } from './cache-misses.ts'
import { changedFiles } from './changed-files.ts'
import { madeFrom } from './made-from.ts'
import type { TimelineRecorder } from './recorder.ts'

type Parts = Pick<BuildParts, 'store' | 'source' | 'settings'>

/** Nobody waits longer for an explanation, in milliseconds. */
const LIMIT_MS = 2000
/** Earlier images of the same recipe that are searched for one that was built, not reused. */
const SAME = 5
/** Files of a context that is compared. */
const MOST_FILES = 100_000

/** What an explanation needs; looked up while the image is being built. */
interface Known {
  instructions: Instruction[] | null
  key: Uint8Array
  earlier: Earlier | null
  /** The files of the earlier build; null if the mirror does not have them (any more). */
  files: ContextEntry[] | null
}

/** Explains a build when it has ended: see explainLater. @param bases as recorded with the image; null if unknown */
export type Explain = (bases: BaseImage[] | null) => Promise<void>

/**
 * Prepares to say why a build's steps were not cached: looks up the earlier build that it is compared with. What it returns
 * records what the build was made from and why its first step was not cached, and logs the latter in one line. It never
 * rejects: without an explanation, a build is as good.
 * @param text the Dockerfile; null if it could not be read
 */
export function explainLater(
  prepared: PreparedBuild,
  text: string | null,
  parts: Parts,
  io: BuildIo,
): Explain {
  const { timeline, signal } = io
  if (!timeline) return async () => {}
  const known = lookUp(prepared, text, parts, signal)
  known.catch(() => {}) // reported below
  return async (bases) => {
    const steps = timeline.steps()
    if (!steps) return
    const limited = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)])
    try {
      await explain(
        await orAbort(known, limited),
        { ...prepared, steps, bases },
        parts,
        { ...io, timeline },
        limited,
      )
    } catch {
      // The mirror or the store did not answer: others need them, too, and report it.
    }
  }
}

async function lookUp(
  { build, commit, context }: PreparedBuild,
  text: string | null,
  { store, source }: Parts,
  signal: AbortSignal,
): Promise<Known> {
  const instructions = await inOwnTurn(() => instructionsOf(text))
  const [key, earlier] = await Promise.all([settingsSecret(store), earlierBuild(build, store)])
  const isLarge = context.entries.length > MOST_FILES
  const files =
    earlier && !isLarge ? await filesOf(commit, earlier.commit, source, signal).catch(() => null) : null
  return { instructions, key, earlier, files }
}

async function explain(
  { instructions, key, earlier, files }: Known,
  { build, context, steps, bases }: PreparedBuild & { steps: Step[]; bases: BaseImage[] | null },
  parts: Parts,
  { log, timeline }: BuildIo & { timeline: TimelineRecorder },
  signal: AbortSignal,
): Promise<void> {
  const settings = parts.settings(build.repository)
  const { redact } = timeline
  const made = madeFrom({ instructions, settings, images: timeline.images(), bases, key, redact })
  timeline.explain(null, made)
  const missed = await findMissed({
    ...{ steps, instructions, made, earlier: earlier?.known ?? null, cache: build.cache },
    changedFiles: async (paths) => files && changedFiles(files, context.entries, paths, signal),
  })
  timeline.explain(missed, made)
  const isNews = missed?.causes.every(({ kind }) => kind !== 'first_build')
  if (missed && isNews) await linesTo(log)(missedLine(missed))
}

/** @throws the signal's reason once it is aborted */
async function orAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  return Promise.race([work, aborted.promise]).finally(() => signal.removeEventListener('abort', abort))
}

/** The files of an earlier commit; null if it is not in the mirror (any more). */
async function filesOf(
  commit: Commit,
  earlier: Earlier['commit'],
  source: Parts['source'],
  signal: AbortSignal,
): Promise<ContextEntry[] | null> {
  const found = await source.earlier(commit, earlier)
  if (!found) return null
  const context = await source.context(found, { signal, offline: true })
  await context.close()
  return context.entries
}

const secrets = new WeakMap<BuildStore, Promise<Uint8Array>>()

function settingsSecret(store: BuildStore): Promise<Uint8Array> {
  const known = secrets.get(store) ?? store.secret('settings in timelines')
  secrets.set(store, known)
  known.catch(() => secrets.delete(store))
  return known
}

interface Earlier {
  known: EarlierBuild
  commit: { sha: string; tree: string | null }
}

/**
 * The build whose results were to be expected in the cache: the newest one of the same refs, otherwise of the default
 * branch, otherwise of the repository. If that reused an image, the one that built it.
 */
async function earlierBuild(build: Build, store: BuildStore): Promise<Earlier | null> {
  const { repository, refs, defaultBranch } = build
  const main: Ref[] = defaultBranch ? [{ kind: 'branch', name: defaultBranch }] : []
  const searched = [refs, main].filter(({ length }) => length > 0)
  let last = null
  for (const some of [...searched, []]) last ??= await store.lastArtifact(repository, some)
  if (!last) return null
  const same = last.recipe ? await store.artifactsByRecipe(repository, last.recipe, SAME) : []
  let made: MadeFrom | null = null
  for (const artifact of [last, ...same]) {
    made = (await store.timelines.get(artifact.buildId))?.made ?? null
    if (made) return { known: { build: artifact.buildId, sha: artifact.sha, made }, commit: artifact }
  }
  return { known: { build: last.buildId, sha: last.sha, made: null }, commit: last }
}
