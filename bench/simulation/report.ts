import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { projectRoot } from '../../test/support/processes.ts'
import type { AffinityResults } from '../report/affinity-results.ts'
import { affinityTable } from '../report/affinity-table.ts'
import { say } from '../support/run.ts'
import type { SimulationResults } from './run.ts'
import { sizingTable } from './sizing.ts'
import { simulationTables, tableMarkdown } from './table.ts'

/** Puts the figures of the last runs between the marks in docs/scaling.md, whose text is written by hand. */
async function writeFigures(simulation: SimulationResults, affinity: AffinityResults): Promise<void> {
  const file = join(projectRoot, 'docs/scaling.md')
  const { steps, history, cores } = simulation
  const held = steps.map((step) => Math.round(step.seconds))
  const seconds = [...new Set([Math.min(...held), Math.max(...held)])].join(' to ')
  const figures = {
    sizing: tableMarkdown(sizingTable(steps)),
    simulation: [
      `Measured on ${cores} cores shared by the database, the queue, and the simulated fleet, with ${history.toLocaleString('en')} builds stored beforehand; each rate was held for ${seconds} s.`,
      ...simulationTables(steps).map(tableMarkdown),
    ].join('\n\n'),
    affinity: tableMarkdown(affinityTable(affinity.cases)),
  }
  let text = await readFile(file, 'utf8')
  for (const [name, block] of Object.entries(figures)) {
    const marks = new RegExp(`(<!-- ${name}: [^>]*-->\\n)[^]*?(<!-- end -->)`)
    if (!marks.test(text)) throw new Error(`${file} has no place for ${name}`)
    text = text.replace(marks, (_, begin: string, end: string) => `${begin}\n${block}\n\n${end}`)
  }
  await writeFile(file, text)
}

if (import.meta.main) {
  const folder = join(projectRoot, '.conveyor/bench')
  const [simulation = join(folder, 'simulation.json'), affinity = join(folder, 'affinity.json')] =
    process.argv.slice(2)
  await writeFigures(
    JSON.parse(await readFile(simulation, 'utf8')),
    JSON.parse(await readFile(affinity, 'utf8')),
  )
  say('docs/scaling.md has the figures')
}
