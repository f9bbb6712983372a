import { createHash } from 'node:crypto'
import { InvalidDockerfile, UnpredictableDockerfile } from './errors.ts'
import { type Instruction, parse } from './instructions.ts'
import { split } from './words.ts'

/** The instructions of one stage, by their lines; the first one is its FROM. */
export interface OutlinedStage {
  /** In lower case; null if unnamed. */
  name: string | null
  /** Position among the stages. */
  index: number
  /** As written after FROM. */
  base: string
  lines: string[]
}

/** The parts of a Dockerfile that determine its steps. */
export interface Outline {
  /** Lines before the first FROM. */
  globals: string[]
  stages: OutlinedStage[]
}

/** Longer lines are cut, with a hash of the whole. In characters. */
const MAX_LINE = 240

/** The instructions of a Dockerfile; null if it cannot be parsed. @param dockerfile null if it could not be read */
export function instructionsOf(dockerfile: string | null): Instruction[] | null {
  if (dockerfile === null) return null
  for (const heredocs of ['spaced', 'tight', 'none'] as const) {
    try {
      return parse(dockerfile, heredocs).instructions
    } catch (error) {
      if (!(error instanceof InvalidDockerfile || error instanceof UnpredictableDockerfile)) throw error
    }
  }
  return null
}

/** An instruction as one line: equal for equal instructions. */
export function lineOf({ keyword, flags, args, heredocs = '' }: Instruction): string {
  const line = [keyword.toUpperCase(), ...flags, args].filter((part) => part !== '').join(' ')
  if (line.length <= MAX_LINE && heredocs === '') return line
  const hash = createHash('sha256').update(`${line}\n${heredocs}`).digest('hex').slice(0, 16)
  return `${line.slice(0, MAX_LINE).toWellFormed()}… (${hash})`
}

/** The stages of a Dockerfile, from the lines of its instructions. */
export function outlineOf(lines: readonly string[]): Outline {
  const outline: Outline = { globals: [], stages: [] }
  for (const line of lines) {
    const open = outline.stages.at(-1)
    if (keywordOf(line) === 'FROM') {
      const [base = '', , name] = split(line).filter((word, at) => at > 0 && !word.startsWith('--'))
      const index = outline.stages.length
      outline.stages.push({ name: name?.toLowerCase() ?? null, index, base, lines: [line] })
    } else if (open) open.lines.push(line)
    else outline.globals.push(line)
  }
  return outline
}

/** `RUN` */
export function keywordOf(line: string): string {
  return line.slice(0, /[ ]|$/.exec(line)?.index)
}

/** The earlier stage that a stage is based on, if any. */
export function stageBelow({ stages }: Outline, { base, index }: OutlinedStage): OutlinedStage | undefined {
  return stages.findLast((one) => one.index < index && one.name === base.toLowerCase())
}

/**
 * Where the instruction of a step is, which BuildKit names `[build 2/5] RUN ...`: the position in the lines of its stage.
 * Null if it is not certain, as with ONBUILD instructions of the base image.
 */
export function placeOf(outline: Outline, stepName: string): { stage: OutlinedStage; at: number } | null {
  const [, inside = '', text = ''] = /^\[([^\]]*)\] (.*)$/s.exec(stepName) ?? []
  // `linux/amd64 build 2/5`, `build 2/5`, or `2/5` if there is only one stage.
  const [, name, number, total] = /^(?:[a-z0-9]+\/\S+ )?(?:(\S+) )?(\d+)\/(\d+)$/.exec(inside) ?? []
  const stage = stageNamed(outline, name)
  if (!stage || number === undefined) return null
  const steps = stage.lines.flatMap((line, at) => (isStep(outline, stage, line) ? [at] : []))
  const at = steps[Number(number) - 1]
  if (at === undefined || steps.length !== Number(total)) return null
  return keywordOf(stage.lines[at] ?? '') === keywordOf(text).toUpperCase() ? { stage, at } : null
}

/** The position of a line among all instructions. */
export function positionOf(
  { globals, stages }: Outline,
  { stage, at }: { stage: OutlinedStage; at: number },
): number {
  return stages.slice(0, stage.index).reduce((sum, { lines }) => sum + lines.length, globals.length) + at
}

function stageNamed({ stages }: Outline, name: string | undefined): OutlinedStage | undefined {
  if (name === undefined) return stages.length === 1 ? stages[0] : undefined
  const [, number] = /^stage-(\d+)$/.exec(name) ?? []
  return (
    stages.findLast((one) => one.name === name.toLowerCase()) ??
    stages.find((one) => one.name === null && one.index === Number(number ?? -1))
  )
}

function isStep(outline: Outline, stage: OutlinedStage, line: string): boolean {
  const keyword = keywordOf(line)
  if (keyword === 'FROM') return stage.base.toLowerCase() !== 'scratch' && !stageBelow(outline, stage)
  return ['RUN', 'COPY', 'ADD', 'WORKDIR'].includes(keyword)
}

/** What a COPY, ADD or RUN takes from the build context. */
export interface ContextUse {
  /** Paths in the context, with wildcards; null if they are not known for certain. */
  paths: string[] | null
  /** Whether something may come from a URL or another repository. */
  remote: boolean
}

/** Flags that choose among the files below a path. */
const SELECTING = ['exclude', 'parents']

/** @param stepName BuildKit's name of the step, in which variables are replaced */
export function contextUse(instruction: Instruction, stepName: string): ContextUse {
  const { keyword, flags } = instruction
  const has = (name: string) => flags.some((flag) => flag === `--${name}` || flag.startsWith(`--${name}=`))
  if (keyword === 'run') return { paths: mountedPaths(flags), remote: false }
  if ((keyword !== 'copy' && keyword !== 'add') || has('from')) return { paths: [], remote: false }
  const words = sourcesOf(instruction, stepName)
  if (!words || SELECTING.some(has)) return { paths: null, remote: keyword === 'add' }
  const isRemote = (word: string) => /^(?:[a-z]+:\/\/|git@)/i.test(word)
  return {
    paths: words.filter((word) => !isRemote(word) && !word.startsWith('<<')).map(contextPath),
    remote: keyword === 'add' && words.some(isRemote),
  }
}

/** The sources of COPY and ADD; null if quotes or variables make them uncertain. */
function sourcesOf({ args, json, keyword }: Instruction, stepName: string): string[] | null {
  const text = json?.join(' ') ?? args
  if (!text.includes('$')) {
    if (!json && /["'\\`]/.test(args)) return null
    return (json ?? split(args)).slice(0, -1)
  }
  const [, named = ''] = /^\[[^\]]*\] (.*)$/s.exec(stepName) ?? []
  if (json || /["'\\`]/.test(args) || keywordOf(named).toLowerCase() !== keyword) return null
  const words = split(named).filter((word, at) => at > 0 && !word.startsWith('--'))
  return words.length === split(args).length ? words.slice(0, -1) : null
}

/** The paths that `RUN --mount=type=bind` mounts from the context; null if one contains a variable. */
function mountedPaths(flags: string[]): string[] | null {
  const paths: string[] = []
  for (const flag of flags) {
    const [, mount] = /^--mount=(.*)$/s.exec(flag) ?? []
    if (mount === undefined) continue
    const fields = new Map(
      mount.split(',').map((field): [string, string] => {
        const [key = '', ...value] = field.split('=')
        return [key.toLowerCase(), value.join('=')]
      }),
    )
    if ((fields.get('type') ?? 'bind') !== 'bind' || fields.has('from')) continue
    const source = fields.get('source') ?? fields.get('src') ?? '.'
    if (/["$]/.test(source)) return null
    paths.push(contextPath(source))
  }
  return paths
}

/** A path relative to the context's root. */
function contextPath(path: string): string {
  const parts: string[] = []
  for (const part of path.split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '' && part !== '.') parts.push(part)
  }
  return parts.join('/') || '.'
}
