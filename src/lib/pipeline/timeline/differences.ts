import type { MadeFrom, MissCause } from '../../core/timeline.ts'
import { keywordOf, type Outline, type OutlinedStage, stageBelow } from '../../dockerfile/outline.ts'
import { differingSettings } from './compare.ts'

/** Where an instruction is: see placeOf. */
interface Place {
  stage: OutlinedStage
  at: number
}

/** Instructions that change what the steps after them do. */
const DEFINING = ['FROM', 'RUN', 'COPY', 'ADD', 'WORKDIR', 'ENV', 'ARG', 'USER', 'SHELL']
const SILENT = ['ENV', 'ARG', 'USER', 'SHELL']
/** Settings that only RUN uses. */
const OF_COMMANDS = /^(?:network$|host |ulimit )/

/** How the Dockerfile, the settings and the images of two builds differ, where that affects a step. */
export class Differences {
  readonly #after: Outline
  readonly #before: Outline
  readonly #made: { before: MadeFrom; after: MadeFrom }

  constructor(after: Outline, before: Outline, made: { before: MadeFrom; after: MadeFrom }) {
    this.#after = after
    this.#before = before
    this.#made = made
  }

  /** Images that moved. @param names canonical names of those that the step depends on */
  bases(names: readonly string[]): { causes: MissCause[]; isKnown: boolean } {
    const { before, after } = this.#made
    const causes: MissCause[] = []
    let isKnown = true
    for (const name of new Set(names)) {
      const now = after.bases.find((base) => base.name === name)
      const then = before.bases.find((base) => base.name === name)
      // An image that was not used before is a difference of the Dockerfile.
      if (now && !then) continue
      if (!now?.digest || !then?.digest || now.local !== then.local) isKnown = false
      else if (now.digest !== then.digest) {
        causes.push({ kind: 'base', name, before: then.digest, after: now.digest })
      }
    }
    return { causes, isKnown }
  }

  /** The first line that differs on the way to an instruction, and the instruction itself. */
  lines({ stage, at }: Place): MissCause[] {
    const line = stage.lines[at] ?? ''
    const causes: MissCause[] = []
    const [own, ...below] = this.#way(stage)
    const then = this.#stageBefore(stage)
    if (!then) return [{ kind: 'instruction', before: null, after: stage.lines[0] ?? line }]
    const now = this.#relevant(own ?? stage, at)
    const old = this.#relevant(then, null)
    const first = now.findIndex((one, i) => one !== old[i])
    if (first >= 0) causes.push(changeAt(now, old, first, this.#relevant(stage, null)))
    // A later difference in the instruction itself says more than an earlier one that it does not depend on.
    if (first >= 0 && now[first] !== line && !old.includes(line)) {
      causes.unshift({ kind: 'instruction', before: counterpart(line, now, old), after: line })
    }
    if (causes.length > 0) return causes
    for (const one of below) {
      const found = this.lines({ stage: one, at: one.lines.length - 1 })
      if (found.length > 0) return found
    }
    return []
  }

  /** Settings that changed and that an instruction uses. */
  settings({ stage, at }: Place): MissCause[] {
    const { before, after } = this.#made
    const changed = differingSettings(before, after).filter(({ name }) => this.#uses(name, stage, at))
    return changed.map(({ name }) => ({ kind: 'setting', name }))
  }

  #uses(setting: string, stage: OutlinedStage, at: number): boolean {
    const line = stage.lines[at] ?? ''
    const isCommand = keywordOf(line) === 'RUN'
    if (setting === 'platform') return true
    if (OF_COMMANDS.test(setting)) return isCommand
    const [kind, name = ''] = setting.split(/ (.*)/s)
    const stages = this.#way(stage)
    if (kind === 'context') return stages.some(({ lines }) => lines.some((one) => one.includes(name)))
    const declares = (one: string) => keywordOf(one) === 'ARG' && declaredBy(one).includes(name)
    const names = new RegExp(`\\$\\{?${name.replace(/\W/g, '\\$&')}(?![A-Za-z0-9_])`)
    if (this.#after.globals.some(declares) && stages.some(({ lines }) => names.test(lines[0] ?? '')))
      return true
    const visible = stages.flatMap(({ lines }, i) => (i === 0 ? lines.slice(0, at) : lines))
    if (!visible.some(declares)) return false
    // A command has all arguments in its environment; through ENV, they may be anywhere.
    return (
      isCommand ||
      names.test(line) ||
      (line.includes('$') && visible.some((one) => keywordOf(one) === 'ENV' && names.test(one)))
    )
  }

  /** A stage, and those that it is based on. */
  #way(stage: OutlinedStage): OutlinedStage[] {
    const way = [stage]
    for (let below = stageBelow(this.#after, stage); below; below = stageBelow(this.#after, below))
      way.push(below)
    return way
  }

  #stageBefore({ name, index }: OutlinedStage): OutlinedStage | undefined {
    const { stages } = this.#before
    return name === null ? stages[index] : stages.findLast((one) => one.name === name)
  }

  /** The lines up to `at` (null: all) that affect it, where that is certain. */
  #relevant({ lines }: OutlinedStage, at: number | null): string[] {
    const some = at === null ? lines : lines.slice(0, at + 1)
    return some.filter((line, i) => {
      const keyword = keywordOf(line)
      if (!DEFINING.includes(keyword)) return false
      if (!SILENT.includes(keyword)) return true
      // The environment matters for commands, and for lines with variables.
      return lines.slice(i + 1).some((later) => keywordOf(later) === 'RUN' || later.includes('$'))
    })
  }
}

/** The names that an ARG declares. */
function declaredBy(line: string): string[] {
  return line
    .split(/\s+/)
    .slice(1)
    .map((word) => word.split('=')[0] ?? '')
}

/** The difference at a position: a new line, or what stands in place of an earlier one. */
function changeAt(now: string[], old: string[], at: number, all: string[]): MissCause {
  const [before = null, after = ''] = [old[at], now[at]]
  // If the old line comes later, this one was inserted.
  const isInserted = before !== null && all.slice(at + 1).includes(before)
  return { kind: 'instruction', before: isInserted ? null : before, after }
}

/** The old line in the place of a new one, unless that is still there. */
function counterpart(line: string, now: string[], old: string[]): string | null {
  const before = old[now.indexOf(line)]
  return before === undefined || now.includes(before) ? null : before
}
