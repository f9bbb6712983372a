import { InvalidDockerfile, UnpredictableDockerfile } from './errors.ts'
import { type Instruction, parse } from './instructions.ts'
import { flagValue, flagValues, split } from './words.ts'

/**
 * Paths of the context that a Dockerfile copies before a RUN, if more is copied after it (`COPY go.mod .`, `RUN go mod
 * download`, `COPY . .`) and commands use cache mounts. Nothing without cache mounts; everything, `/`, if unknown.
 * @param dockerfile null if it could not be read
 */
export function copiedBeforeRun(dockerfile: string | null): string[] {
  if (dockerfile === null) return ['/']
  for (const heredocs of ['spaced', 'tight', 'none'] as const) {
    try {
      return pathsBeforeRun(parse(dockerfile, heredocs).instructions)
    } catch (error) {
      if (!(error instanceof InvalidDockerfile || error instanceof UnpredictableDockerfile)) throw error
    }
  }
  return ['/']
}

/** What a stage has copied from the context at some point. */
interface Copied {
  /** Paths copied since the last RUN. */
  fresh: Set<string>
  /** Paths copied before a RUN. */
  used: Set<string>
}

/** Limit of instructions times paths; beyond that, everything is returned. */
const MAX_WORK = 100_000

function pathsBeforeRun(instructions: readonly Instruction[]): string[] {
  if (!instructions.some(hasCacheMount)) return []
  const result = new Set<string>()
  const stages = new Map<string, Copied>()
  let here: Copied = { fresh: new Set(), used: new Set() }
  let [count, work] = [0, 0]
  const take = (stage: string | undefined) => {
    const other = stages.get(stage?.toLowerCase() ?? '')
    if (other) here.used = new Set([...here.used, ...other.used, ...other.fresh])
  }
  for (const one of instructions) {
    work += 1 + here.used.size + here.fresh.size
    if (work > MAX_WORK) return ['/']
    if (one.keyword === 'from') {
      const [base = '', , name] = split(one.args)
      const below = stages.get(base.toLowerCase())
      here = { fresh: new Set(below?.fresh), used: new Set(below?.used) }
      for (const key of [String(count++), name?.toLowerCase() ?? '']) if (key !== '') stages.set(key, here)
    } else if (one.keyword === 'run') {
      for (const mount of flagValues(one.flags, 'mount')) take(/(?:^|,)from=([^,]*)/i.exec(mount)?.[1])
      here.used = new Set([...here.used, ...here.fresh])
      here.fresh = new Set()
    } else if (one.keyword === 'copy' || one.keyword === 'add') {
      take(flagValue(one.flags, 'from'))
      const paths = copied(one)
      if (paths.some((path) => /[$"'`]/.test(path))) return ['/']
      if (paths.length > 0) for (const path of here.used) result.add(path)
      for (const path of paths) here.fresh.add(path)
    }
  }
  return [...result]
}

/** Case-insensitive, as in BuildKit. */
function hasCacheMount({ keyword, flags }: Instruction): boolean {
  return keyword === 'run' && flagValues(flags, 'mount').some((mount) => /type=cache/i.test(mount))
}

/** The paths that COPY or ADD copies from the context. */
function copied({ flags, args, json }: Instruction): string[] {
  if (flagValue(flags, 'from') !== undefined) return []
  const words = json ?? split(args)
  return words.slice(0, -1).filter((word) => !word.startsWith('<<'))
}
