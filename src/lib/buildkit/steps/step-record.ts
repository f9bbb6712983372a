import { type Step, shortened } from '../../core/timeline.ts'
import type { StatusResponse, Vertex, VertexWarning } from '../gen/status.ts'
import { imagesOf } from '../step-names.ts'

interface RecordedStep {
  number: number
  vertex: Vertex
  startedAt: Date | undefined
  completedAt: Date | undefined
  warnings: VertexWarning[]
}

/** Steps that are recorded: more than a timeline keeps, as those that never start take no part in it. */
const MOST_STEPS = 2000
/** Warnings of a step: those about the Dockerfile are all of one step. */
const MOST_WARNINGS = 100
/** Details of a warning. */
const MOST_DETAILS = 10
/** Texts are cut here before they are searched for secrets, and again afterwards; in characters. */
const LONGEST_TEXT = 16 * 1024
/** Later times are invalid, in milliseconds since 1970. */
const LATEST = Date.UTC(2200)

/**
 * Records the steps of one build from BuildKit's status messages: their inputs, times, results and warnings. They have the
 * same numbers as in the log (see Progress).
 */
export class StepRecord {
  readonly #steps = new Map<string, RecordedStep>()
  /** How many different steps were reported, including those that are not recorded. */
  readonly #seen = new Set<string>()
  /** What an aborted try at the same build recorded. */
  readonly #before: ReadonlyMap<string, RecordedStep>
  #version = 0

  /** @param before the record of an aborted try at the same build: what ran there did not come from the cache */
  constructor(before?: StepRecord) {
    this.#before = before ? before.#steps : new Map()
  }

  /** Grows whenever something changes. */
  get version(): number {
    return this.#version
  }

  add({ vertexes, warnings }: StatusResponse): void {
    if (vertexes.length + warnings.length > 0) this.#version += 1
    for (const vertex of vertexes) this.#vertex(vertex)
    for (const warning of warnings) {
      const known = this.#steps.get(warning.vertex)
      if (known && known.warnings.length < MOST_WARNINGS) known.warnings.push(warning)
    }
  }

  /** The steps that have started or were cached, by number. @param ended whether those still running were aborted */
  list(ended: boolean): Step[] {
    const numbers = new Map([...this.#steps].map(([digest, { number }]) => [digest, number]))
    return [...this.#steps.values()].filter(isBegun).map((recorded) => {
      const { number, vertex, ...step } = this.#withBefore(recorded)
      const { name, digest, error, inputs } = vertex
      return {
        number,
        name: shortened(name, LONGEST_TEXT),
        digest: shortened(digest),
        inputs: [...new Set(inputs.flatMap((input) => numbers.get(input) ?? []))],
        startedAt: timeOf(step.startedAt),
        completedAt: timeOf(step.completedAt),
        state: stateOf(vertex, step.completedAt !== undefined, ended),
        error: error === '' ? null : shortened(error, LONGEST_TEXT),
        warnings: step.warnings.map(warningOf),
      }
    })
  }

  /** The images that the steps use, with the digests that they resolved to, where reported. */
  images(): { name: string; digest: string | null }[] {
    return imagesOf([...this.#steps.values()].map(({ vertex }) => vertex.name))
  }

  /** A step that ran in the aborted try has its time there, although this try found it in the cache. */
  #withBefore(step: RecordedStep): RecordedStep {
    const ran = this.#before.get(step.vertex.digest)
    if (!step.vertex.cached || !ran?.startedAt || ran.vertex.cached || ran.vertex.error !== '') return step
    return {
      ...step,
      vertex: { ...step.vertex, cached: false },
      startedAt: ran.startedAt,
      completedAt: ran.completedAt ?? step.completedAt,
    }
  }

  #vertex(vertex: Vertex): void {
    const known = this.#steps.get(vertex.digest)
    if (known) {
      // BuildKit reports a step again when it continues: it has ended with its last part.
      known.completedAt = vertex.completed ?? (vertex.started ? undefined : known.completedAt)
      known.startedAt ??= vertex.started
      known.vertex = { ...vertex, cached: vertex.cached || (known.vertex.cached && !vertex.completed) }
      return
    }
    if (this.#seen.has(vertex.digest)) return
    this.#seen.add(vertex.digest)
    if (this.#steps.size >= MOST_STEPS) return
    const { started: startedAt, completed: completedAt } = vertex
    this.#steps.set(vertex.digest, { number: this.#seen.size, vertex, startedAt, completedAt, warnings: [] })
  }
}

function isBegun({ vertex, startedAt, completedAt }: RecordedStep): boolean {
  return vertex.cached || startedAt !== undefined || completedAt !== undefined
}

function stateOf({ cached, error }: Vertex, completed: boolean, ended: boolean): Step['state'] {
  if (error !== '') return error.endsWith('context canceled') ? 'cancelled' : 'failed'
  if (cached) return 'cached'
  if (completed) return 'done'
  return ended ? 'cancelled' : 'running'
}

/** Null if it is invalid. */
function timeOf(time: Date | undefined): string | null {
  const ms = time?.getTime() ?? Number.NaN
  return ms >= 0 && ms <= LATEST ? new Date(ms).toISOString() : null
}

function warningOf({ short, detail, url, info, ranges }: VertexWarning): Step['warnings'][number] {
  const text = (bytes: Buffer) => shortened(bytes.toString('utf8', 0, LONGEST_TEXT), LONGEST_TEXT)
  const line = ranges[0]?.start?.line ?? 0
  return {
    message: text(short),
    detail: detail.slice(0, MOST_DETAILS).map(text),
    url: url === '' ? null : url,
    file: info?.filename || null,
    line: line > 0 ? line : null,
  }
}
