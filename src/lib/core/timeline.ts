/**
 * Where the time of a build went, and why steps were not taken from the cache. Texts come from the repository: they are
 * bounded and free of secrets, but not safe to display as they are.
 */
export interface Timeline {
  /** The attempt that it describes: the newest one. */
  attempt: number
  /** In the order in which they began; `look up` may appear twice. */
  phases: Phase[]
  /** BuildKit's steps, as numbered in the log; empty if nothing was built, or in a builder image. At most MAX_STEPS. */
  steps: Step[]
  /** Numbers of the steps that determined when the last one ended: each waited for the one before it. */
  critical: number[]
  /** The first step that was not cached, and why; null if all were cached, or nothing was built. */
  missed: Missed | null
  /** What the build was made from, for comparison with the next one; null if it did not get that far. */
  made: MadeFrom | null
  /** The lines of the Dockerfile that the build failed at; absent if there are none, or they are not known for certain. */
  excerpt?: SourceExcerpt
}

/** Consecutive lines of a file, around those that an error is about. */
export interface SourceExcerpt {
  /** Its path in the repository. */
  file: string
  /** At most MAX_LINES. */
  lines: SourceLine[]
  /** How many lines follow besides. */
  more: number
}

interface SourceLine {
  /** From 1. */
  number: number
  text: string
  /** Whether the error is about this line, rather than one next to it. */
  failed: boolean
}

export interface Phase {
  name: 'queue' | 'look up' | 'fetch' | 'context' | 'build' | 'push' | 'tags'
  startedAt: string
  /** So far, if it is still running. */
  ms: number
  /** A remark: `3 of 4 steps cached`. */
  note?: string
  /** Absent if it has ended. */
  running?: true
}

/** A vertex of BuildKit's graph. Times are by the clock of the machine that BuildKit runs on. */
export interface Step {
  /** As in the log: #5. */
  number: number
  /** `[build 2/3] COPY . .` */
  name: string
  /** Identifies its definition, and those of its inputs, `sha256:...`; see MadeFrom. */
  digest: string
  /** Numbers of the steps whose results it uses. */
  inputs: number[]
  startedAt: string | null
  completedAt: string | null
  state: 'running' | 'done' | 'cached' | 'failed' | 'cancelled'
  error: string | null
  warnings: StepWarning[]
}

/** A warning of the Dockerfile's frontend. */
interface StepWarning {
  message: string
  detail: string[]
  url: string | null
  /** Where in the Dockerfile; null if unknown. */
  file: string | null
  line: number | null
}

export interface Missed {
  /** Number of the step. */
  step: number
  name: string
  /** At most MAX_CAUSES. */
  causes: MissCause[]
  /** How many causes there are besides. */
  more: number
  /** The earlier build that it was compared with; null if there is none. */
  comparedWith: { build: string; sha: string } | null
}

/** How this build differs from the earlier one whose results could have been used. */
export type MissCause =
  /** The repository has not been built before. */
  | { kind: 'first_build' }
  | { kind: 'file'; path: string; change: FileDifference }
  /** The image moved, from one digest to another. */
  | { kind: 'base'; name: string; before: string; after: string }
  /** A line of the Dockerfile; `before` is null if it is new. */
  | { kind: 'instruction'; before: string | null; after: string }
  /** A build argument or another setting of the server, by name: `build-arg VERSION`, `platform`. */
  | { kind: 'setting'; name: string }
  | { kind: 'no_cache_requested' }
  /** Nothing has changed: the result was pruned, or was never on this machine. */
  | { kind: 'not_in_cache' }
  /** There is no evidence: the earlier build cannot be compared with this one. */
  | { kind: 'unknown' }

export type FileDifference = 'added' | 'removed' | 'changed' | 'mode'

/** What a build was made from besides its files, compactly. */
export interface MadeFrom {
  /** The instructions of the Dockerfile, in order, each as one line without its comments; null if it is unreadable. */
  instructions: string[] | null
  /** The images that it used; digests are null where BuildKit did not report them. */
  bases: MadeFromBase[]
  /** Keyed hashes of the values of settings, by name; the values themselves may be confidential. */
  settings: Record<string, string>
}

/** Whether a step is a line of the Dockerfile, rather than internal work of BuildKit. */
export function isDockerfileStep(name: string): boolean {
  return name.startsWith('[') && !name.startsWith('[internal]') && !CONTEXT.test(name)
}

/** `[context NAME] ...` is a named context, but `[context 2/3] ...` a step of a stage named context. */
const CONTEXT = /^\[context (?!\d+\/\d+\])/

/** Whether a step does the work of a Dockerfile line, unlike FROM. */
export function isWork(name: string): boolean {
  return isDockerfileStep(name) && !/^\[[^\]]*\] FROM /.test(name)
}

/** What a list of builds says about a timeline. */
export interface TimelineSummary {
  /** Steps of the Dockerfile that ran or were cached, without FROM: as many as the build's log counts. */
  steps: number
  /** Those of them that were taken from the cache. */
  cached: number
  /** An image was looked up and nothing was built: if the build succeeded, it reused an earlier image. */
  reused: boolean
}

/** @returns what lists show of a timeline */
export function summaryOf({ steps, phases }: Pick<Timeline, 'steps' | 'phases'>): TimelineSummary {
  const own = steps.filter(
    ({ name, state, startedAt }) => isWork(name) && (startedAt !== null || state === 'cached'),
  )
  const had = (name: Phase['name']) => phases.some((phase) => phase.name === name)
  return {
    steps: own.length,
    cached: own.filter(({ state }) => state === 'cached').length,
    reused: had('look up') && !had('build'),
  }
}

export interface MadeFromBase {
  /** `docker.io/library/node:24` */
  name: string
  /** Null if it is not known. */
  digest: string | null
  /** The digest is the id of an image of the engine, and cannot be compared with that of a registry. */
  local?: true
}

const MAX_STEPS = 500
export const MAX_CAUSES = 10
/** Length of a name, in characters. */
const MAX_NAME = 300
/** Size of a timeline, in bytes of JSON. */
const MAX_BYTES = 256 * 1024
/** Of all steps together. */
const MAX_WARNINGS = 100
const MAX_DETAILS = 4
/** Of the Dockerfile, together, in characters. */
const MAX_INSTRUCTIONS = 64 * 1024
const MAX_SETTINGS = 500
/** Of an excerpt. */
const MAX_LINES = 15
/** Lines are cut here before they are searched for secrets, and again afterwards; in characters. */
const LONGEST_LINE = 16 * 1024
const MAX_BASES = 100

/** A text of at most `length` characters, with an ellipsis if something is left out. */
export function shortened(text: string, length: number = MAX_NAME): string {
  return text.length > length ? `${text.slice(0, length - 1).toWellFormed()}…` : text
}

/**
 * The lines of a text around some of its ranges, chosen as `docker build` does: two lines on each side of a single line, and
 * one on each side of several. (https://github.com/moby/buildkit/blob/v0.13.2/solver/errdefs/source.go, Print)
 * @param ranges of line numbers, from 1
 * @returns null if there are none, or not in this text
 */
export function excerptOf(
  file: string,
  text: string,
  ranges: readonly { first: number; last: number }[],
): SourceExcerpt | null {
  const all = text.split('\n')
  const known = ranges.map(({ first, last }) => ({ first, last: Math.max(first, last) }))
  const from = Math.min(...known.map(({ first }) => first))
  const to = Math.min(all.length, Math.max(...known.map(({ last }) => last)))
  if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 1 && from <= all.length)) return null
  let [start, end] = [from, to]
  for (let added = 0; added < (from === to ? 4 : 2); added += 1) {
    if (start > 1) {
      start -= 1
      added += 1
    }
    if (end < all.length) {
      end += 1
      added += 1
    }
  }
  const shown = all.slice(start - 1, Math.min(end, start - 1 + MAX_LINES))
  const lines = shown.map((line, at) => ({
    number: start + at,
    text: line.slice(0, LONGEST_LINE).replace(/\r$/, ''),
    failed: known.some(({ first, last }) => first <= start + at && start + at <= last),
  }))
  return { file, lines, more: end - start + 1 - lines.length }
}

/** The timeline within its limits: names are cut and, if that is not enough, the last steps are left out. */
export function boundedTimeline(timeline: Timeline): Timeline {
  for (let [steps, name] = [MAX_STEPS, MAX_NAME]; ; [steps, name] = [steps >> 1, Math.max(60, name >> 1)]) {
    const bounded = within(timeline, steps, name)
    if (Buffer.byteLength(JSON.stringify(bounded)) <= MAX_BYTES) return bounded
    if (steps > 0) continue
    return { ...bounded, missed: null, made: null }
  }
}

function within(timeline: Timeline, maxSteps: number, maxName: number): Timeline {
  const { phases, made, missed, excerpt } = timeline
  const steps = timeline.steps.slice(0, maxSteps)
  const kept = new Set(steps.map(({ number }) => number))
  const isKept = (number: number) => kept.has(number)
  const cut = (text: string) => shortened(text, maxName)
  let warnings = MAX_WARNINGS
  const someOf = (all: StepWarning[]) => {
    const some = all.slice(0, warnings)
    warnings -= some.length
    return some.map((warning) => shortWarning(warning, cut))
  }
  return {
    ...timeline,
    phases: phases.slice(0, 50).map((phase) => (phase.note ? { ...phase, note: cut(phase.note) } : phase)),
    steps: steps.map((step) => ({
      ...step,
      name: cut(step.name),
      digest: shortened(step.digest, 100),
      inputs: step.inputs.filter(isKept).slice(0, MAX_STEPS),
      error: step.error === null ? null : cut(step.error),
      warnings: someOf(step.warnings),
    })),
    critical: timeline.critical.filter(isKept),
    missed: missed && { ...missed, name: cut(missed.name), causes: missed.causes.slice(0, MAX_CAUSES) },
    made: made && {
      instructions: isWithin(made.instructions) ? made.instructions : null,
      bases: made.bases.slice(0, MAX_BASES),
      settings: Object.fromEntries(Object.entries(made.settings).slice(0, MAX_SETTINGS)),
    },
    ...(excerpt && {
      excerpt: {
        file: cut(excerpt.file),
        lines: excerpt.lines.slice(0, MAX_LINES).map((line) => ({ ...line, text: cut(line.text) })),
        more: excerpt.more + Math.max(0, excerpt.lines.length - MAX_LINES),
      },
    }),
  }
}

function shortWarning(warning: StepWarning, cut: (text: string) => string): StepWarning {
  const { message, detail, url, file } = warning
  return {
    ...warning,
    message: cut(message),
    detail: detail.slice(0, MAX_DETAILS).map(cut),
    url: url === null || url.length > MAX_NAME ? null : url,
    file: file === null ? null : cut(file),
  }
}

function isWithin(instructions: string[] | null): boolean {
  return (instructions ?? []).reduce((sum, { length }) => sum + length, 0) <= MAX_INSTRUCTIONS
}
