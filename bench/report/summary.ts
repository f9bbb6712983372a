import { type FlowResults, isOurs, type Outcome } from '../flows.ts'
import { SCENARIOS, type Scenario } from '../scenarios.ts'
import { percentile, type Spread, spread } from './stats.ts'

/** What one contender did in one scenario. */
export interface Cell {
  /** Seconds; null when no run succeeded. */
  seconds: Spread | null
  /** Why runs failed. */
  failures: string[]
}

/** Conveyor compared with the others in one scenario. Ratios: Conveyor's median to that of another. */
interface Comparison {
  ratios: Map<string, number>
  /** The quickest of the others. */
  best: { name: string; ratio: number } | null
}

/** One scenario, in figures. */
export interface Row {
  scenario: Scenario
  cells: Map<string, Cell>
  /** By the name of ours. */
  comparisons: Map<string, Comparison>
}

export function rowsOf(flows: FlowResults): Row[] {
  return SCENARIOS.filter(({ id }) => flows[id]).map((scenario) => {
    const outcomes = { ...(scenario.against && flows[scenario.against]), ...flows[scenario.id] }
    const cells = new Map(Object.entries(outcomes).map(([name, all]) => [name, cellOf(all)]))
    const ours = [...cells.keys()].filter(isOurs)
    return { scenario, cells, comparisons: new Map(ours.map((name) => [name, comparisonOf(name, cells)])) }
  })
}

function comparisonOf(name: string, cells: Map<string, Cell>): Comparison {
  const ours = cells.get(name)?.seconds?.median
  const ratios = new Map<string, number>()
  for (const [other, { seconds }] of cells) {
    if (!isOurs(other) && seconds && ours !== undefined) ratios.set(other, ours / seconds.median)
  }
  const [best] = [...ratios].sort(([, a], [, b]) => b - a)
  return { ratios, best: best ? { name: best[0], ratio: best[1] } : null }
}

/** The medians of where the time of one of ours went in a scenario, by phase. */
export function splitOf(flows: FlowResults, scenario: string, name: string): Map<string, number> {
  const splits = succeeded(flows[scenario]?.[name] ?? []).flatMap(({ split }) => (split ? [split] : []))
  const phases = new Set(splits.flatMap((split) => Object.keys(split)))
  return new Map(
    [...phases].map((phase) => [
      phase,
      percentile(
        splits.map((split) => split[phase] ?? 0),
        50,
      ),
    ]),
  )
}

/** Of one contender's runs. */
export function cellOf(outcomes: Outcome[]): Cell {
  const seconds = succeeded(outcomes).map((flow) => flow.seconds)
  const failures = outcomes.flatMap((outcome) => ('failed' in outcome ? [outcome.failed] : []))
  return { seconds: seconds.length > 0 ? spread(seconds) : null, failures }
}

function succeeded(outcomes: Outcome[]) {
  return outcomes.flatMap((outcome) => ('failed' in outcome ? [] : [outcome]))
}

/** `1.23 (1.20 to 1.31)`, and how many runs failed. */
export function cellText(cell: Cell | undefined): string {
  if (!cell) return '-'
  const { seconds, failures } = cell
  const failed = failures.length > 0 ? `${failures.length} failed` : ''
  if (!seconds) return failed
  const { median, min, max } = seconds
  return `${short(median)} (${short(min)} to ${short(max)})${failed && `, ${failed}`}`
}

/** `1.23 s (1.20 to 1.31)`. */
export function secondsText({ median, min, max }: Spread): string {
  return `${short(median)} s (${short(min)} to ${short(max)})`
}

/** Three digits that mean something: 0.0234, 1.23, 12.3. */
export function short(number: number): string {
  return Number(number.toPrecision(3)).toString()
}
