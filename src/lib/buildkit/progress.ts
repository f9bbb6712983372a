import { oneLine } from '../core/one-line.ts'
import type { StatusResponse, Vertex, VertexLog, VertexStatus } from './gen/status.ts'
import { hasCacheMount, imagesOf, isCommand, isWork, LOAD_CONTEXT, REMOTE } from './step-names.ts'
import { StepGraph } from './steps/step-graph.ts'

interface Step {
  /** Number in the log, by order of appearance. */
  number: number
  name: string
  startedAt: Date | undefined
  done: boolean
  cached: boolean
  error: string
  ms: number
  /** Incomplete last lines of output, by stream. */
  partial: Map<bigint, Buffer>
  /** Ids of transfers that have been reported as done. */
  shown: Set<string>
}

/** An executed command, and the commands that use its results together with files of the context, by name. */
interface MixedUse {
  ran: string
  users: string[]
}

/** Summary of a build's steps: those of the Dockerfile, without FROM and BuildKit's internal ones. */
export interface ProgressSummary {
  total: number
  cached: number
  /** Name and error of the failed step. */
  failed: { name: string; error: string } | undefined
  /** How long the export of the image took, including a push as part of it, in milliseconds. */
  exportMs: number
  /** Names of steps whose output the engine truncated at its size or rate limit. */
  clipped: string[]
  /** Images from outside, with the digests that they resolved to, where reported. */
  images: { name: string; digest: string | null }[]
  /** Whether files came from a URL or another git repository. */
  remoteFiles: boolean
}

/**
 * Renders BuildKit's status messages like `docker build --progress=plain`: steps are numbered, output lines have the
 * seconds since the start of their step, and every step ends with DONE, CACHED or ERROR.
 */
export class Progress {
  readonly #steps = new Map<string, Step>()
  #current: Step | undefined
  #hasUncachedStep = false
  #clock = 0
  readonly #graph = new StepGraph()
  /** Digests of commands that were not cached. */
  readonly #ran = new Set<string>()
  /** Mixed uses of their results; valid until more steps are added. */
  readonly #mixedUses = new Map<string, MixedUse[]>()

  /** Whether a step that is not cached has started; all cache imports are complete by then. */
  get hasUncachedStep(): boolean {
    return this.#hasUncachedStep
  }

  /** The latest time reported by BuildKit's clock, in milliseconds since 1970; 0 if none. */
  get clock(): number {
    return this.#clock
  }

  /**
   * Commands that were executed (not cached), and whose results later commands use together with files of the context.
   * The results are newer than those files, unless the files were changed later.
   */
  get ranBeforeCopy(): readonly string[] {
    return this.#findMixedUses().map(({ ran }) => ran)
  }

  /** Whether one of those later commands has a cache mount. */
  get outdatesCacheMounts(): boolean {
    return this.#findMixedUses().some(({ users }) => users.some(hasCacheMount))
  }

  #findMixedUses(): MixedUse[] {
    if (this.#ran.size * this.#steps.size > MAX_SEARCH) return this.#anyMixedUses()
    return [...this.#ran].flatMap((digest) => {
      const known = this.#mixedUses.get(digest) ?? this.#mixedUsesOf(digest)
      this.#mixedUses.set(digest, known)
      return known
    })
  }

  /** With too many steps for the search, assumes that every command's results are used by all others. */
  #anyMixedUses(): MixedUse[] {
    const names = [...this.#ran].map((digest) => this.#steps.get(digest)?.name ?? '')
    const users = [...this.#steps.values()].map(({ name }) => name).filter(isCommand)
    return names.map((ran, at) => ({ ran, users: at === 0 ? users : [] }))
  }

  /** Finds where files of the context meet the results of a command, through COPY, a mount or `--link`. */
  #mixedUsesOf(command: string): MixedUse[] {
    const nameOf = (digest: string) => this.#steps.get(digest)?.name ?? ''
    const contexts = [...this.#steps]
      .filter(([, { name }]) => name === LOAD_CONTEXT)
      .map(([digest]) => digest)
    const copied = this.#graph.above(contexts, (digest) => !isCommand(nameOf(digest)))
    copied.delete(command)
    const made = this.#graph.above([command])
    const mixed = [...copied].filter((digest) => made.has(digest))
    const users = [...this.#graph.above(mixed)].map(nameOf).filter(isCommand)
    return users.length > 0 ? [{ ran: nameOf(command), users }] : []
  }

  /**
   * The log text for one message, in pieces of about a millisecond's work each; usually one piece, or none. All of
   * them must be consumed before the next message. Output bytes are kept, including invalid UTF-8.
   */
  *render(message: StatusResponse): Generator<Buffer, void, void> {
    const out = new Pieces()
    for (const vertex of message.vertexes) this.#begin(vertex, out)
    for (const status of message.statuses) this.#transfer(status, out)
    for (const log of message.logs) yield* this.#output(log, out)
    for (const vertex of message.vertexes) yield* this.#end(vertex, out)
    yield* out.rest()
  }

  summary(): ProgressSummary {
    const steps = [...this.#steps.values()]
    const own = steps.filter((step) => isWork(step.name) && (step.startedAt || step.cached))
    // A failed cache import does not fail the build.
    const failed = steps.find(
      (step) => step.error !== '' && !isCancelled(step.error) && !step.name.startsWith('importing cache '),
    )
    return {
      total: own.length,
      cached: own.filter((step) => step.cached).length,
      failed: failed && { name: failed.name, error: failed.error },
      exportMs: steps.find((step) => step.name === 'exporting to image')?.ms ?? 0,
      clipped: steps.filter((step) => step.shown.has(CLIPPED)).map((step) => `#${step.number} ${step.name}`),
      images: imagesOf(steps.map((step) => step.name)),
      remoteFiles: steps.some((step) => REMOTE.test(step.name)),
    }
  }

  #begin(vertex: Vertex, out: Pieces): void {
    if (vertex.started && !vertex.cached && isWork(vertex.name)) this.#hasUncachedStep = true
    if (vertex.started && !vertex.cached && isCommand(vertex.name)) this.#ran.add(vertex.digest)
    for (const at of [vertex.started, vertex.completed]) {
      const time = at?.getTime() ?? 0
      if (time <= LATEST) this.#clock = Math.max(this.#clock, time)
    }
    const known = this.#steps.get(vertex.digest)
    const waited = known !== undefined && !known.startedAt && !known.done
    if (known) known.startedAt ??= vertex.started
    else {
      this.#steps.set(vertex.digest, {
        number: this.#steps.size + 1,
        name: vertex.name,
        startedAt: vertex.started,
        done: false,
        cached: false,
        error: '',
        ms: 0,
        partial: new Map(),
        shown: new Set(),
      })
      this.#graph.add(vertex.digest, vertex.inputs)
      if (vertex.name.startsWith('[')) this.#mixedUses.clear()
    }
    // A waiting step is announced when it starts.
    if ((!known || waited) && (vertex.started || vertex.cached)) this.#line(vertex.digest, '', out)
  }

  #transfer(status: VertexStatus, out: Pieces): void {
    const step = this.#steps.get(status.vertex)
    if (!step || !status.completed || step.shown.has(status.ID)) return
    step.shown.add(status.ID)
    const size =
      status.total > 0n ? ` ${bytes(status.total)}` : status.current > 0n ? ` ${bytes(status.current)}` : ''
    this.#line(status.vertex, `${status.ID}${size}${took(status.started, status.completed)} done`, out)
  }

  *#output(log: VertexLog, out: Pieces): Generator<Buffer, void, void> {
    const step = this.#steps.get(log.vertex)
    if (!step) return
    const text = Buffer.concat([step.partial.get(log.stream) ?? Buffer.alloc(0), log.msg])
    // A line without end (a progress bar of carriage returns) is split.
    const end = text.length > MAX_LINE ? text.length : text.lastIndexOf(NEWLINE) + 1
    step.partial.set(log.stream, text.subarray(end))
    yield* this.#outputLines(log.vertex, step, text.subarray(0, end), log.timestamp, out)
  }

  *#end(vertex: Vertex, out: Pieces): Generator<Buffer, void, void> {
    const step = this.#steps.get(vertex.digest)
    if (!step || step.done || !vertex.completed) return
    step.done = true
    step.cached = vertex.cached
    step.error = vertex.error
    step.ms = vertex.completed.getTime() - (step.startedAt ?? vertex.completed).getTime()
    for (const rest of step.partial.values()) {
      yield* this.#outputLines(vertex.digest, step, rest, vertex.completed, out)
    }
    step.partial.clear()
    if (vertex.error !== '') {
      this.#line(vertex.digest, isCancelled(vertex.error) ? 'CANCELED' : `ERROR: ${vertex.error}`, out)
    } else if (vertex.cached) this.#line(vertex.digest, 'CACHED', out)
    else this.#line(vertex.digest, `DONE${took(step.startedAt, vertex.completed)}`, out)
    this.#current = undefined
  }

  *#outputLines(
    digest: string,
    step: Step,
    text: Buffer,
    at: Date | undefined,
    out: Pieces,
  ): Generator<Buffer, void, void> {
    if (text.length === 0) return
    if (hasClipNotice(text)) step.shown.add(CLIPPED)
    const seconds = step.startedAt && at ? (at.getTime() - step.startedAt.getTime()) / 1000 : 0
    this.#line(digest, '', out)
    const prefix = Buffer.from(`#${step.number} ${Math.max(0, seconds).toFixed(3)} `)
    for (let from = 0; from < text.length; ) {
      const end = text.indexOf(NEWLINE, from + MAX_PIECE) + 1 || text.length
      out.push(prefixed(text.subarray(from, end), prefix))
      if (out.isLarge) yield* out.rest()
      from = end
    }
  }

  /** One line of a step, preceded by the step's name if the previous line belongs to another step. */
  #line(digest: string, text: string, out: Pieces): void {
    const step = this.#steps.get(digest)
    if (!step) return
    if (this.#current !== step) {
      out.push(Buffer.from(`\n#${step.number} ${oneLine(step.name)}\n`))
      this.#current = step
    }
    if (text !== '') out.push(Buffer.from(`#${step.number} ${oneLine(text)}\n`))
  }
}

/** Collects small pieces of a log into larger ones. */
class Pieces {
  #pieces: Buffer[] = []
  #size = 0

  push(piece: Buffer): void {
    this.#pieces.push(piece)
    this.#size += piece.length
  }

  get isLarge(): boolean {
    return this.#size > MAX_PIECE
  }

  /** Everything collected, as one piece, unless it is empty. */
  *rest(): Generator<Buffer, void, void> {
    if (this.#size === 0) return
    const all = Buffer.concat(this.#pieces, this.#size)
    this.#pieces = []
    this.#size = 0
    yield all
  }
}

/** In bytes. */
const MAX_PIECE = 16 * 1024
/** Commands times steps: about 50 ms. */
const MAX_SEARCH = 500_000
/** Later times are invalid. In milliseconds since 1970: the year 2200. */
const LATEST = Date.UTC(2200)
const NEWLINE = 0x0a
const MAX_LINE = 64 * 1024
const CLIPPED = 'output clipped'
/** BuildKit's notice that it dropped output; the limit is configured on the engine. */
const CLIP_NOTICE = '[output clipped, log '

function hasClipNotice(text: Buffer): boolean {
  return text.includes(CLIP_NOTICE) && /^\[output clipped, log (limit|speed) /m.test(text.toString('latin1'))
}

/** Prefixes every line, in one Buffer: one per line would dominate the cost of a long log. */
function prefixed(text: Buffer, prefix: Buffer): Buffer {
  const ends = lineEnds(text)
  const result = Buffer.allocUnsafe(text.length + ends.length * prefix.length + 1)
  let size = 0
  let from = 0
  for (const end of ends) {
    size += prefix.copy(result, size)
    size += text.copy(result, size, from, end)
    size = result.writeUInt8(NEWLINE, size)
    from = end + 1
  }
  return result.subarray(0, size)
}

/** Offsets of line ends, including that of a last line without a newline. */
function lineEnds(text: Buffer): number[] {
  const ends: number[] = []
  for (let at = 0; at < text.length; at = (ends.at(-1) ?? 0) + 1) {
    const newline = text.indexOf(NEWLINE, at)
    ends.push(newline < 0 ? text.length : newline)
  }
  return ends
}

function isCancelled(error: string): boolean {
  return error.endsWith('context canceled')
}

function took(from: Date | undefined, to: Date | undefined): string {
  return from && to ? ` ${((to.getTime() - from.getTime()) / 1000).toFixed(1)}s` : ''
}

function bytes(count: bigint): string {
  const n = Number(count)
  if (n < 1000) return `${n}B`
  if (n < 1e6) return `${(n / 1e3).toFixed(2)}kB`
  return n < 1e9 ? `${(n / 1e6).toFixed(2)}MB` : `${(n / 1e9).toFixed(2)}GB`
}
