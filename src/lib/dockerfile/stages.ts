import { InvalidDockerfile, UnpredictableDockerfile } from './errors.ts'
import { Globs } from './glob.ts'
import { type Instruction, instructionOf, type Parsed, parse } from './instructions.ts'
import { substitute, UNKNOWN } from './shell-word.ts'
import { assignments, csvFields, flagValue, flagValues, split, splitLine } from './words.ts'

/** Something that a stage uses: another stage, a named context, or an image. */
export interface StageInput {
  kind: 'from' | 'copy' | 'mount'
  /** After substitution; null if unknown. */
  name: string | null
  /** Whether it is for a specific platform (`FROM --platform=...`). */
  platform: boolean
}

export interface Stage {
  /** Lower-case; null if unnamed. */
  name: string | null
  base: StageInput
  /** In the order of the instructions, excluding `base`. */
  sources: StageInput[]
  /** Whether ADD may download something from a URL or a git repository, or may have to for the build's time. */
  remoteFiles: boolean
}

/** Predefined platform arguments, whose values depend on the build's platform and are unknown here. */
const PLATFORM_ARGS = ['PLATFORM', 'OS', 'OSVERSION', 'ARCH', 'VARIANT'].flatMap((name) => [
  `BUILD${name}`,
  `TARGET${name}`,
])

/** Characters of values, plus a thousand for each stage. */
const MAX_WORK = 4_000_000

/** Values of variables; null if declared without a value. */
type Values = Map<string, string | null>

/**
 * The stages of a Dockerfile. (https://github.com/moby/buildkit/blob/master/frontend/dockerfile/dockerfile2llb/convert.go)
 * @throws InvalidDockerfile, UnpredictableDockerfile
 */
export function stagesOf(parsed: Parsed, buildArgs: Record<string, string>): Stage[] {
  return new Reader(parsed.escape, buildArgs).read(parsed.instructions)
}

/** The names of a Dockerfile's stages, lower-case; empty if it cannot be parsed. */
export function stageNames(dockerfile: string): Set<string> {
  for (const heredocs of ['spaced', 'tight', 'none'] as const) {
    try {
      const stages = stagesOf(parse(dockerfile, heredocs), {})
      return new Set(stages.flatMap(({ name }) => name ?? []))
    } catch (error) {
      if (!(error instanceof InvalidDockerfile || error instanceof UnpredictableDockerfile)) throw error
    }
  }
  return new Set()
}

/** A stage, and what stages based on it inherit. */
interface Open {
  stage: Stage
  /** ARG and ENV. Other variables may come from the base image's environment. */
  values: Values
  /** Whether the stage is based on an image, whose environment is unknown. */
  foreign: boolean
  /** Its ONBUILD instructions, which are executed in stages based on it. */
  triggers: Instruction[]
}

class Reader {
  readonly #escape: string
  readonly #buildArgs: Map<string, string>
  readonly #globals: Values = new Map()
  readonly #stages: Open[] = []
  /** The last stage of each name. */
  readonly #named = new Map<string, Open>()
  readonly #globs = new Globs()
  #left = MAX_WORK

  constructor(escapeChar: string, buildArgs: Record<string, string>) {
    this.#escape = escapeChar
    this.#buildArgs = new Map(Object.entries(buildArgs))
    for (const name of [...PLATFORM_ARGS, 'TARGETSTAGE']) {
      this.#globals.set(name, this.#buildArgs.get(name) ?? UNKNOWN)
    }
  }

  read(instructions: Instruction[]): Stage[] {
    for (const instruction of instructions) {
      const open = this.#stages.at(-1)
      if (instruction.keyword === 'from') this.#from(instruction)
      else if (open) this.#within(instruction, open)
      else if (instruction.keyword === 'arg') this.#globalArg(instruction)
      else throw new InvalidDockerfile('an instruction before FROM')
    }
    if (this.#takesTimeFromElsewhere()) for (const { stage } of this.#stages) stage.remoteFiles = true
    return this.#stages.map(({ stage }) => stage)
  }

  /**
   * Whether the build may take its time from the remote file of any stage that SOURCE_DATE_EPOCH names, or from a named
   * context. The time of `context` is not from elsewhere: BuildKit gets the main context from us.
   * (https://github.com/moby/buildkit/blob/master/frontend/dockerfile/dockerfile2llb/epoch.go)
   */
  #takesTimeFromElsewhere(): boolean {
    const name = 'SOURCE_DATE_EPOCH'
    const time = this.#buildArgs.get(name) ?? this.#globals.get(name) ?? ''
    return !/^([+-]?\d+|context|)$/.test(time)
  }

  #globalArg({ args }: Instruction): void {
    for (const [name, value] of assignments(args, this.#escape, false)) {
      const given = this.#buildArgs.get(name)
      if (given !== undefined) this.#globals.set(name, given)
      // Without a value, some versions set it to the empty string, and others keep its value.
      else if (value === null) this.#globals.set(name, this.#globals.has(name) ? UNKNOWN : null)
      else this.#globals.set(name, this.#value(value, this.#globals, false))
    }
  }

  #from({ args, flags }: Instruction): void {
    const [image = '', as, named, ...more] = split(args)
    if (image === '' || more.length > 0 || (as !== undefined && named === undefined)) {
      throw new InvalidDockerfile('FROM takes one argument, or three')
    }
    if (as !== undefined && as.toLowerCase() !== 'as') throw new InvalidDockerfile('FROM without AS')
    const name = named?.toLowerCase() ?? null
    if (name !== null && !/^[a-z][a-z0-9-_.]*$/.test(name))
      throw new InvalidDockerfile('an invalid stage name')
    const text = this.#value(image, this.#globals, false)
    if (text === '') throw new InvalidDockerfile('FROM without an image')
    const known = text.includes(UNKNOWN) ? null : text
    const base = { kind: 'from' as const, name: known, platform: flagValue(flags, 'platform') !== undefined }
    const below = known === null ? undefined : this.#named.get(known)
    this.#spend((below?.values.size ?? 0) + 20 * (below?.triggers.length ?? 0) + 1000)
    const open: Open = {
      stage: { name, base, sources: [], remoteFiles: false },
      values: new Map(below?.values),
      foreign: below ? below.foreign : known !== 'scratch',
      triggers: [],
    }
    this.#stages.push(open)
    for (const trigger of below?.triggers ?? []) this.#within(trigger, open)
    if (name !== null) this.#named.set(name, open)
  }

  #within(instruction: Instruction, open: Open): void {
    const { keyword, flags, args } = instruction
    if (keyword === 'arg') this.#arg(args, open)
    else if (keyword === 'env') {
      // Values in one ENV refer to the variables before it.
      const set = assignments(args, this.#escape, true).map(
        ([name, value]) =>
          [this.#value(name, open.values, open.foreign), this.#in(value ?? '', open)] as const,
      )
      for (const [name, value] of set) open.values.set(name, value)
    } else if (keyword === 'copy') {
      const from = flagValue(flags, 'from')
      if (from) open.stage.sources.push({ kind: 'copy', name: from, platform: false })
    } else if (keyword === 'run') {
      for (const mount of flagValues(flags, 'mount')) {
        const from = mountedFrom(mount)
        if (from) open.stage.sources.push({ kind: 'mount', name: from, platform: false })
      }
    } else if (keyword === 'add') open.stage.remoteFiles ||= this.#addsRemote(instruction, open)
    else if (keyword === 'onbuild') open.triggers.push(triggerOf(args, this.#escape))
  }

  #arg(args: string, { values, foreign }: Open): void {
    const all = assignments(args, this.#escape, false)
    for (const [key, text] of all) {
      const name = this.#value(key, values, foreign)
      const given = this.#buildArgs.get(name)
      // Versions differ in whether a value may refer to earlier ones in the same instruction.
      if (all.length > 1 && text?.includes('$')) throw new UnpredictableDockerfile('ARG with several names')
      const value = given ?? (text === null ? this.#globals.get(name) : this.#value(text, values, foreign))
      // Without any value, the environment's stays.
      if (value !== undefined && value !== null) values.set(name, value)
    }
  }

  #addsRemote({ args, json }: Instruction, open: Open): boolean {
    // Only some versions treat an unterminated list as a list.
    if (!json && args.startsWith('[') && isRemote(args)) return true
    const words = json ?? split(args)
    return words.slice(0, -1).some((word) => isRemote(this.#in(word, open)))
  }

  #in(text: string, { values, foreign }: Open): string {
    return this.#value(text, values, foreign)
  }

  #value(text: string, values: Values, foreign: boolean): string {
    if (text.includes(UNKNOWN)) throw new UnpredictableDockerfile('a NUL')
    const lookup = (name: string) => (values.has(name) ? values.get(name) : foreign ? UNKNOWN : undefined)
    try {
      const value = substitute(text, this.#escape, lookup, this.#globs)
      this.#spend(value.length)
      return value
    } catch (error) {
      if (error instanceof UnpredictableDockerfile) return UNKNOWN
      throw error
    }
  }

  /** Limits the work: stages that inherit a lot, and nested values, can grow far beyond the length of the text. */
  #spend(work: number): void {
    this.#left -= work
    if (this.#left < 0) throw new InvalidDockerfile('too much work')
  }
}

/** The `from` of a `--mount`; empty for none. @throws InvalidDockerfile */
function mountedFrom(mount: string): string {
  const values = csvFields(mount).flatMap((field) =>
    /^from=/i.test(field) ? [field.slice('from='.length)] : [],
  )
  return values.at(-1) ?? ''
}

function triggerOf(args: string, escapeChar: string): Instruction {
  const trigger = instructionOf(splitLine(args, escapeChar))
  if (['from', 'maintainer', 'onbuild'].includes(trigger.keyword))
    throw new InvalidDockerfile('an invalid ONBUILD instruction')
  return trigger
}

/**
 * Whether a source of ADD may be remote. Anything that ends in `.git` may be a git repository, even without a scheme.
 * (https://github.com/moby/buildkit/blob/master/util/gitutil/git_ref.go)
 */
function isRemote(source: string): boolean {
  if (source.startsWith('./') || source.startsWith('../')) return false
  // A path, whatever follows its first slash.
  const isPath = source.startsWith('/') && !source.includes('.git')
  return !isPath && (source.includes(UNKNOWN) || /:\/\/|@[^@/\s]*:|\.git([#?]|$)/.test(source))
}
