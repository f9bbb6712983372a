import { isWork } from '../../buildkit/step-names.ts'
import { MAX_CAUSES, type MadeFrom, type MissCause, type Missed, type Step } from '../../core/timeline.ts'
import type { Instruction } from '../../dockerfile/instructions.ts'
import {
  type ContextUse,
  contextUse,
  type Outline,
  outlineOf,
  placeOf,
  positionOf,
} from '../../dockerfile/outline.ts'
import { imageNamed } from '../reuse/base-images.ts'
import type { ChangedFile } from './changed-files.ts'
import { Differences } from './differences.ts'

/** A build, and the earlier one whose results it could have used. */
export interface Comparison {
  steps: Step[]
  /** Whether the cache was to be used. */
  cache: boolean
  instructions: Instruction[] | null
  made: MadeFrom
  earlier: EarlierBuild | null
  /** The files that differ among those that paths of the context stand for; null if that is not known. */
  changedFiles(paths: readonly string[]): Promise<ChangedFile[] | null>
}

export interface EarlierBuild {
  build: string
  sha: string
  /** Null if there is no record. */
  made: MadeFrom | null
}

/**
 * The first step of the Dockerfile that ran although everything that it uses came from the cache, and how its definition
 * and its files differ from the earlier build. Only what was recorded or is in git counts: without any difference, and with
 * all of it known, the result was not in the cache (any more); otherwise, the cause is unknown. Null if nothing ran.
 */
export async function findMissed(comparison: Comparison): Promise<Missed | null> {
  const { steps, earlier } = comparison
  const step = firstMissed(steps, comparison.made)
  if (!step) return null
  const causes = await causesOf(step, comparison)
  return {
    step: step.number,
    name: step.name,
    causes: causes.slice(0, MAX_CAUSES),
    more: Math.max(0, causes.length - MAX_CAUSES),
    comparedWith: earlier && { build: earlier.build, sha: earlier.sha },
  }
}

/** In the order of the Dockerfile: BuildKit runs independent steps in any order. */
function firstMissed(steps: Step[], made: MadeFrom): Step | undefined {
  const ran = steps.filter(
    ({ name, state, startedAt }) => isWork(name) && state !== 'cached' && startedAt !== null,
  )
  const missed = new Set(ran.map(({ number }) => number))
  const roots = ran.filter((step) => !inputsOf(step, steps).some(({ number }) => missed.has(number)))
  const outline = outlineOf(made.instructions ?? [])
  const placed = roots.map((step) => ({ step, place: placeOf(outline, step.name) }))
  const order = (place: ReturnType<typeof placeOf>) => (place ? place.stage.index * 1e6 + place.at : Infinity)
  return placed.toSorted((a, b) => {
    const [left, right] = [order(a.place), order(b.place)]
    return left === right ? a.step.number - b.step.number : left - right
  })[0]?.step
}

/** Everything that a step depends on. */
function inputsOf(step: Step, steps: Step[]): Step[] {
  const byNumber = new Map(steps.map((one) => [one.number, one]))
  const found = new Set(step.inputs)
  // Iterating a Set includes members added meanwhile.
  for (const number of found) for (const input of byNumber.get(number)?.inputs ?? []) found.add(input)
  found.delete(step.number)
  return steps.filter(({ number }) => found.has(number))
}

async function causesOf(step: Step, comparison: Comparison): Promise<MissCause[]> {
  const { cache, earlier, made, steps, instructions } = comparison
  if (!cache) return [{ kind: 'no_cache_requested' }]
  if (!earlier) return [{ kind: 'first_build' }]
  if (!earlier.made?.instructions || !made.instructions || !instructions) return [{ kind: 'unknown' }]
  const outline = outlineOf(made.instructions)
  const place = placeOf(outline, step.name)
  if (!place) return [{ kind: 'unknown' }]
  const inputs = inputsOf(step, steps)
  const differences = new Differences(outline, outlineOf(earlier.made.instructions), {
    before: earlier.made,
    after: made,
  })
  const instruction = (one: Step) => instructionOf(one, outline, instructions)

  const own = contextUse(instruction(step) ?? NOTHING, step.name)
  const files = await filesOf(own, comparison)
  const images = imagesIn([...inputs, step])
  const bases = differences.bases(images)
  const found = [
    ...(files.causes ?? []),
    ...bases.causes,
    ...differences.lines(place),
    ...differences.settings(place),
  ]
  if (found.length > 0) return found

  // Nothing differs in the step itself. What it builds on came from the cache, but perhaps from that of another build.
  let isKnown = files.isKnown && bases.isKnown
  const places = inputs
    .filter(({ name }) => isWork(name))
    .map((input) => ({ input, place: placeOf(outline, input.name) }))
  for (const { input, place: below } of places) {
    const use = contextUse(instruction(input) ?? NOTHING, input.name)
    const more = await filesOf(use, comparison)
    isKnown &&= more.isKnown && below !== null
    found.push(...(more.causes ?? []))
    if (below) found.push(...differences.lines(below), ...differences.settings(below))
  }
  if (found.length > 0) return unique(found)
  return [{ kind: isKnown ? 'not_in_cache' : 'unknown' }]
}

const NOTHING: Instruction = { keyword: 'workdir', flags: [], args: '', json: null }

/** The instruction of a step. */
function instructionOf(step: Step, outline: Outline, instructions: Instruction[]): Instruction | undefined {
  const place = placeOf(outline, step.name)
  return place ? instructions[positionOf(outline, place)] : undefined
}

async function filesOf(
  { paths, remote }: ContextUse,
  { changedFiles }: Comparison,
): Promise<{ causes: MissCause[]; isKnown: boolean }> {
  if (paths === null) return { causes: [], isKnown: false }
  if (paths.length === 0) return { causes: [], isKnown: !remote }
  const changed = await changedFiles(paths)
  if (!changed) return { causes: [], isKnown: false }
  return { causes: changed.map((one) => ({ kind: 'file', ...one })), isKnown: !remote }
}

/** The canonical names of images that these steps stand for. */
function imagesIn(steps: Step[]): string[] {
  return steps.flatMap(({ name }) => {
    const image =
      /^(?:\[[^\]]*\] )?FROM (\S+)/.exec(name)?.[1] ??
      /^docker-image:\/\/(\S+)/.exec(name)?.[1] ??
      /^\[context [^\]]+\] (?!https?:)(\S+)$/.exec(name)?.[1]
    return image === undefined ? [] : [imageNamed(image).name]
  })
}

function unique(causes: MissCause[]): MissCause[] {
  return [...new Map(causes.map((cause) => [JSON.stringify(cause), cause])).values()]
}

/** One line for the log: `not cached: #7 COPY . .: 2 files changed: src/a.ts, package.json`. */
export function missedLine({ step, name, causes, more }: Missed): string {
  const files = causes.filter((cause) => cause.kind === 'file')
  const others = causes.filter((cause) => cause.kind !== 'file')
  const count = files.length + (files.length > 0 ? more : 0)
  const shown = files
    .slice(0, SHOWN_FILES)
    .map(({ path, change }) => (change === 'changed' ? path : `${path} (${change})`))
  const rest = count > shown.length ? ` and ${count - shown.length} more` : ''
  const parts = [
    ...(count > 0 ? [`${count} ${count === 1 ? 'file' : 'files'} changed: ${shown.join(', ')}${rest}`] : []),
    ...others.slice(0, SHOWN_FILES).map(clauseOf),
  ]
  return `not cached: #${step} ${quoted(name.replace(/^\[[^\]]*\] /, ''))}: ${parts.join('; ')}`
}

const SHOWN_FILES = 3

function clauseOf(cause: Exclude<MissCause, { kind: 'file' }>): string {
  const id = (digest: string) => digest.slice(0, 'sha256:'.length + 12)
  switch (cause.kind) {
    case 'base':
      return `image ${cause.name} moved from ${id(cause.before)} to ${id(cause.after)}`
    case 'instruction':
      if (cause.before === null) return `the line ${quoted(cause.after)} is new`
      return `the Dockerfile changed from ${quoted(cause.before)} to ${quoted(cause.after)}`
    case 'setting':
      return `the setting ${cause.name} changed`
    case 'first_build':
      return 'it is the first build of this repository'
    case 'no_cache_requested':
      return 'the build was requested without the cache'
    case 'not_in_cache':
      return 'nothing has changed, but its result is not in the cache'
    case 'unknown':
      return 'the cause is unknown'
  }
}

function quoted(text: string): string {
  return text.length > 80 ? `${text.slice(0, 79).toWellFormed()}…` : text
}
