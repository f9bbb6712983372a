import { oneLine } from '../core/one-line.ts'
import { splitReference } from '../registry/image-name.ts'
import type { StatusResponse, Vertex, VertexLog, VertexStatus } from './gen/status.ts'
import { StepGraph } from './step-graph.ts'

interface Step {
  /** The number it has in the log, by order of appearance. */
  number: number
  name: string
  startedAt: Date | undefined
  done: boolean
  cached: boolean
  error: string
  ms: number
  /** Output that does not end in a newline yet, a stream each. */
  partial: Map<bigint, Buffer>
  /** The ids of transfers whose end has been shown. */
  shown: Set<string>
}

/** A command that ran, and those that read what it made together with files of the context; by their names. */
interface Joined {
  ran: string
  users: string[]
}

/** What a build's steps came to. A step is work that a Dockerfile line asks for; FROM and BuildKit's own are not. */
export interface ProgressSummary {
  total: number
  cached: number
  /** Name and error of the step that failed. */
  failed: { name: string; error: string } | undefined
  /** How long the image's export took, with its push where that is a part of it; in milliseconds. */
  exportMs: number
  /** Names of steps whose output the engine clipped at its size or rate limit. */
  clipped: string[]
  /** What came from outside: images with the digests that they resolved to, where told. */
  images: { name: string; digest: string | null }[]
  /** Whether files came from a URL or another git repository. */
  remoteFiles: boolean
}

/**
 * Turns BuildKit's status messages into the lines that `docker build --progress=plain` shows: every step
 * has a number, its output lines carry seconds since its start, and it ends as DONE, CACHED or ERROR.
 */
export class Progress {
  readonly #steps = new Map<string, Step>()
  #current: Step | undefined
  #hasUncachedStep = false
  #clock = 0
  readonly #graph = new StepGraph()
  /** Commands that no cache could answer, by their digest. */
  readonly #ran = new Set<string>()
  /** What is known of those, until there are more steps. */
  readonly #joined = new Map<string, Joined[]>()

  /** Whether a step has begun that no cache could answer: what the build imports is there then. */
  get hasUncachedStep(): boolean {
    return this.#hasUncachedStep
  }

  /** The newest time that BuildKit's clock has told, in milliseconds since 1970; 0 before it has told any. */
  get clock(): number {
    return this.#clock
  }

  /**
   * Commands that ran, rather than came from the cache, and that later commands have what they made of beside
   * files of the context: it is newer than those files, unless these were changed later.
   */
  get ranBeforeCopy(): readonly string[] {
    return this.#look().map(({ ran }) => ran)
  }

  /** Whether one of those later commands keeps files from build to build in a cache mount. */
  get outdatesCacheMounts(): boolean {
    return this.#look().some(({ users }) => users.some(hasCacheMount))
  }

  #look(): Joined[] {
    if (this.#ran.size * this.#steps.size > MOST_LOOKED_AT) return this.#allJoined()
    return [...this.#ran].flatMap((digest) => {
      const known = this.#joined.get(digest) ?? this.#joinedWith(digest)
      this.#joined.set(digest, known)
      return known
    })
  }

  /** Every command, as if all that comes later read what it made: of very many steps it is not looked up which do. */
  #allJoined(): Joined[] {
    const names = [...this.#ran].map((digest) => this.#steps.get(digest)?.name ?? '')
    const users = [...this.#steps.values()].map(({ name }) => name).filter(isCommand)
    return names.map((ran, at) => ({ ran, users: at === 0 ? users : [] }))
  }

  /** Where files of the context, as they are, come together with what a command made, by COPY, a mount or `--link`. */
  #joinedWith(command: string): Joined[] {
    const nameOf = (digest: string) => this.#steps.get(digest)?.name ?? ''
    const contexts = [...this.#steps]
      .filter(([, { name }]) => name === LOAD_CONTEXT)
      .map(([digest]) => digest)
    const copied = this.#graph.above(contexts, (digest) => !isCommand(nameOf(digest)))
    copied.delete(command)
    const made = this.#graph.above([command])
    const both = [...copied].filter((digest) => made.has(digest))
    const users = [...this.#graph.above(both)].map(nameOf).filter(isCommand)
    return users.length > 0 ? [{ ran: nameOf(command), users }] : []
  }

  /**
   * The log text for one message, in pieces that each take a millisecond or so; usually one piece, or none. All of
   * them have to be taken before the next message. Output bytes are kept as they are, also invalid UTF-8.
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
    // A cache that cannot be imported fails nothing.
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
      if (vertex.name.startsWith('[')) this.#joined.clear()
    }
    // A step that only waits is announced when it starts.
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
    // A line that never ends (a progress bar of carriage returns) is shown in pieces.
    const end = text.length > LONGEST_LINE ? text.length : text.lastIndexOf(NEWLINE) + 1
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
      const end = text.indexOf(NEWLINE, from + MOST_AT_ONCE) + 1 || text.length
      out.push(prefixed(text.subarray(from, end), prefix))
      if (out.isLarge) yield* out.rest()
      from = end
    }
  }

  /** One line of a step, under the step's name when the line before it belonged to another step. */
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

/** Pieces of a log on their way out. */
class Pieces {
  #pieces: Buffer[] = []
  #size = 0

  push(piece: Buffer): void {
    this.#pieces.push(piece)
    this.#size += piece.length
  }

  get isLarge(): boolean {
    return this.#size > MOST_AT_ONCE
  }

  /** All of them as one, if there are any. */
  *rest(): Generator<Buffer, void, void> {
    if (this.#size === 0) return
    const all = Buffer.concat(this.#pieces, this.#size)
    this.#pieces = []
    this.#size = 0
    yield all
  }
}

/** In bytes; a line of output may have none but its newline. */
const MOST_AT_ONCE = 16 * 1024
/** Commands times steps: a twentieth of a second. */
const MOST_LOOKED_AT = 500_000
/** A time after this is none. In milliseconds since 1970: 2200. */
const LATEST = Date.UTC(2200)
const NEWLINE = 0x0a
const LONGEST_LINE = 64 * 1024
const CLIPPED = 'output clipped'
/** How BuildKit says that it dropped output (its limit is set on the engine, not by the client). */
const CLIP_NOTICE = '[output clipped, log '

function hasClipNotice(text: Buffer): boolean {
  return text.includes(CLIP_NOTICE) && /^\[output clipped, log (limit|speed) /m.test(text.toString('latin1'))
}

/** Every line after a prefix, in one piece: a Buffer for each would be most of what a long log costs. */
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

/** Where the lines of a text end, also a last one without a newline. */
function lineEnds(text: Buffer): number[] {
  const ends: number[] = []
  for (let at = 0; at < text.length; at = (ends.at(-1) ?? 0) + 1) {
    const newline = text.indexOf(NEWLINE, at)
    ends.push(newline < 0 ? text.length : newline)
  }
  return ends
}

/** Whether a vertex is a line of the Dockerfile, rather than BuildKit's own work around it. */
export function isDockerfileStep(name: string): boolean {
  return name.startsWith('[') && !name.startsWith('[internal]') && !CONTEXT.test(name)
}

/** `[context NAME] ...`: a named context; but `[context 2/3] ...` is a step of a stage that is called so. */
const CONTEXT = /^\[context (?!\d+\/\d+\])/

/**
 * `ADD https://...` and the like: a step of its own, named after the whole instruction, in which the address need
 * not be the first thing. Also those of named contexts: of two builds that need the same thing at the same time, BuildKit tells both the name that one of them has for it.
 */
const REMOTE =
  /^\[[^\]]*\] ADD .*(:\/\/|@[^@/\s]*:)|^(\[context [^\]]+\] )?"?(https?|git|ssh|git@[^:]+):|^\[internal\] load git source (?!\S+#([0-9a-f]{40}|[0-9a-f]{64})(:\S*)?$)/s

/** How steps are called that stand for an image. */
const IMAGES = [
  /^(?:\[[^\]]*\] )?FROM (\S+)/,
  /^docker-image:\/\/(\S+)/,
  /^\[context [^\]]+\] (?!https?:)(\S+)$/,
]

/** An image that has no layers is a step of no other kind. */
const METADATA = /^\[(?:\S+ )?internal\] load metadata for (\S+)$/

/** The images of FROM, COPY --from, syntax lines and named contexts, each once. */
function imagesOf(names: string[]): { name: string; digest: string | null }[] {
  const images = new Map<string, { name: string; digest: string | null }>()
  const add = (named: string) => {
    const reference = splitReference(named)
    images.set(named, { name: `${reference.withoutDigest()}`, digest: reference.digest })
  }
  for (const step of names) {
    const named = IMAGES.map((form) => form.exec(step)?.[1]).find((name) => name !== undefined)
    if (named) add(named)
  }
  // Of BuildKit's names, some have no tag for `latest`.
  const plain = (image: string) => {
    const { name, tag } = splitReference(image)
    return tag === null || tag === 'latest' ? name : `${name}:${tag}`
  }
  const told = new Set([...images.keys()].map(plain))
  for (const step of names) {
    const named = METADATA.exec(step)?.[1]
    if (named && !told.has(plain(named))) add(named)
  }
  return [...images.values()]
}

function isWork(name: string): boolean {
  return isDockerfileStep(name) && !/^\[[^\]]*\] FROM /.test(name)
}

/** By the flags in its name. */
function hasCacheMount(name: string): boolean {
  const [, flags = ''] = /^\[[^\]]*\] RUN ((?:--\S+\s+)*)/.exec(name) ?? []
  return /type=cache/i.test(flags)
}

/** How BuildKit calls the transfer of the context. */
const LOAD_CONTEXT = '[internal] load build context'

/** A step that makes files of its own, whose times are those of its running. */
function isCommand(name: string): boolean {
  return isWork(name) && !/^\[[^\]]*\] (?:COPY|ADD|WORKDIR) /.test(name)
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
