import { type FlowResults, isOurs } from '../flows.ts'
import { cellText, rowsOf, short, splitOf } from './summary.ts'

/** The flows as lines for a terminal: seconds, ratios, and where Conveyor's time went. */
export function flowLines(flows: FlowResults): string[] {
  const rows = rowsOf(flows)
  const names = [...new Set(rows.flatMap(({ cells }) => [...cells.keys()]))]
  const ours = names.filter(isOurs)
  const seconds = rows.map(({ scenario, cells, comparisons }) => [
    scenario.id,
    ...names.map((name) => cellText(cells.get(name))),
    ...ours.map((name) => {
      const best = comparisons.get(name)?.best
      return best ? `${best.ratio.toFixed(2)} of ${best.name}` : '-'
    }),
  ])
  const failures = rows.flatMap(({ scenario, cells }) =>
    [...cells].flatMap(([name, cell]) =>
      cell.failures.map((why) => `${scenario.id} ${name}: ${why.split('\n')[0]}`),
    ),
  )
  const splits = rows.flatMap(({ scenario }) =>
    ours.map((name) => {
      const phases = [...splitOf(flows, scenario.id, name)].map(([phase, time]) => `${phase} ${short(time)}`)
      return `${scenario.id.padEnd(8)} ${name}: ${phases.join(', ')}`
    }),
  )
  return [
    'Seconds from a push to three tags and a status: median (min to max)',
    ...columns([['', ...names, ...ours.map((name) => `${name}/best other`)], ...seconds]),
    '',
    "Where Conveyor's time went: medians, in seconds",
    ...splits,
    ...failures.map((failure) => `FAILED ${failure}`),
  ]
}

function columns(rows: string[][]): string[] {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  return rows.map((row) =>
    row
      .map((text, column) => text.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}
