import { InvalidDockerfile, UnpredictableDockerfile } from './errors.ts'
import { type Instruction, parse } from './instructions.ts'
import { flagValue, flagValues, split } from './words.ts'

/**
 * What a Dockerfile copies from the context before a command, with more that is copied after that (`COPY go.mod .`,
 * `RUN go mod download`, `COPY . .`), where commands keep files in cache mounts; nothing where none does. Everything,
 * `/`, where it cannot be told.
 * @param dockerfile null when it could not be read
 */
export function copiedBeforeRun(dockerfile: string | null): string[] {
  if (dockerfile === null) return ['/']
  for (const heredocs of ['spaced', 'tight', 'none'] as const) {
    try {
      return early(parse(dockerfile, heredocs).instructions)
    } catch (error) {
      if (!(error instanceof InvalidDockerfile || error instanceof UnpredictableDockerfile)) throw error
    }
  }
  return ['/']
}

/** What is in a stage at some point, of the context. */
interface Copied {
  /** Paths that were copied since the last command. */
  fresh: Set<string>
  /** Those that were copied before one. */
  used: Set<string>
}

/** Beyond this many instructions and paths, everything counts. */
const MOST_WORK = 100_000

function early(instructions: readonly Instruction[]): string[] {
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
    if (work > MOST_WORK) return ['/']
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

/** BuildKit does not mind the case. */
function hasCacheMount({ keyword, flags }: Instruction): boolean {
  return keyword === 'run' && flagValues(flags, 'mount').some((mount) => /type=cache/i.test(mount))
}

/** The paths that COPY or ADD takes from the context. */
function copied({ flags, args, json }: Instruction): string[] {
  if (flagValue(flags, 'from') !== undefined) return []
  const words = json ?? split(args)
  return words.slice(0, -1).filter((word) => !word.startsWith('<<'))
}
