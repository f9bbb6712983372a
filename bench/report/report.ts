import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { projectRoot } from '../../test/support/processes.ts'
import { burstLines } from '../burst.ts'
import { cacheExportLines } from '../cache-export.ts'
import { cliLines } from '../cli.ts'
import { type FlowResults, isOurs } from '../flows.ts'
import { type LimitResult, limitLines } from '../limit.ts'
import type { ListsResult } from '../lists/lists.ts'
import { memoryLines } from '../memory.ts'
import { say } from '../support/run.ts'
import { chart } from './chart.ts'
import type { Results } from './results.ts'
import { cellText, type Row, rowsOf, short, splitOf } from './summary.ts'

/** Writes docs/benchmarks.md, its chart, and the README's. */
export async function writeReport(results: Results): Promise<void> {
  const docs = join(projectRoot, 'docs')
  await mkdir(docs, { recursive: true })
  await writeFile(join(docs, 'benchmarks.md'), report(results))
  if (!results.flows) return
  const rows = rowsOf(results.flows)
  await writeFile(join(docs, 'benchmarks.svg'), chart(rows))
  await writeFile(join(docs, 'speed.svg'), chart(rows.filter(({ scenario }) => README.has(scenario.id))))
}

/** The scenarios in the README's chart: a typical push, and one that changes nothing in the image. */
const README = new Set(['S2', 'S7'])

function report(results: Results): string {
  const { flows, limit, cacheExport, burst, memory, cli, lists, runs, machine, date } = results
  const list = (lines: string[]) => lines.map((line) => `- ${line}`).join('\n')
  const sections = [
    `# Benchmarks

<!-- Written by bench/report/report.ts from the results of a run: not to be edited. -->

How long it takes from a push to an image with three tags in the registry and a commit status, and what the
server uses meanwhile. Measured on ${date.slice(0, 10)}; everything in one table comes from one run.`,
    flows && flowSection(flows, runs),
    limit && limitSection(limit, flows),
    cacheExport && `## The cache in the registry\n\n${list(cacheExportLines(cacheExport))}`,
    burst && `## Many pushes at once\n\n${list(burstLines(burst))}`,
    memory && `## Memory of the server process\n\n${list(memoryLines(memory))}`,
    cli && `## Start of the command line\n\n${list(cliLines(cli))}`,
    lists && listsSection(lists),
    machineSection(machine),
    METHOD,
  ]
  return `${sections.filter(Boolean).join('\n\n')}\n`
}

function flowSection(flows: FlowResults, runs: number): string {
  const rows = rowsOf(flows)
  const names = [...new Set(rows.flatMap(({ cells }) => [...cells.keys()]))]
  const others = names.filter((name) => !isOurs(name))
  const seconds = rows.map(({ scenario, cells }) => [
    `**${scenario.id}** ${scenario.title}`,
    ...names.map((name) => cellText(cells.get(name))),
  ])
  const ratios = rows.flatMap(({ scenario, comparisons }) =>
    [...comparisons].map(([name, { ratios, best }]) => [
      `**${scenario.id}** ${name}`,
      ...others.map((other) => ratios.get(other)?.toFixed(2) ?? '-'),
      best ? `${best.ratio.toFixed(2)} (${best.name})` : '-',
    ]),
  )
  const ours = names.filter(isOurs)
  return `## From a push to an image

![Bars: seconds by scenario](benchmarks.svg)

Seconds: the median of ${runs} ${runs === 1 ? 'run' : 'runs'}, with the fastest and the slowest.

${markdown(['', ...names], seconds)}

Conveyor's median divided by that of each other contender, and of the fastest of them in that scenario:

${markdown(['', ...others, 'best other'], ratios)}

Where Conveyor's time went, in seconds (medians). \`webhook\` is the time to its response, \`first byte\` from there to the first
byte of the log; then the phases as in the build's log, and \`in all\` as its summary has it. The engine's own figures, which have
one decimal, are part of \`build\`. \`status sent\` is from that summary to the commit status.
Negative: the status was there before the summary was read.

${splitTable(flows, rows, ours)}

Where the others' time went: buildctl's \`build\` includes its pushes, which are \`engine: export\`.

${splitTable(flows, rows, others)}`
}

/** The medians of the phases that these contenders tell of, scenario by scenario. */
function splitTable(flows: FlowResults, rows: Row[], names: string[]): string {
  const splits = rows.flatMap(({ scenario: { id } }) =>
    names.map((name) => ({ title: `**${id}** ${name}`, split: splitOf(flows, id, name) })),
  )
  const told = splits.filter(({ split }) => split.size > 0)
  const phases = [...new Set(told.flatMap(({ split }) => [...split.keys()]))]
  const lines = told.map(({ title, split }) => [
    title,
    ...phases.map((phase) => {
      const time = split.get(phase)
      return time === undefined ? '-' : short(time)
    }),
  ])
  return markdown(['', ...phases], lines)
}

function limitSection(limit: LimitResult, flows: FlowResults = {}): string {
  const rows = rowsOf(flows).filter(({ scenario }) => limit[scenario.id])
  const ours = [...new Set(rows.flatMap(({ cells }) => [...cells.keys()]))].filter(isOurs)
  const times = rows.map(({ scenario: { id }, cells }) => {
    const least = limit[id]?.seconds.median ?? Number.NaN
    const ratios = ours.map((name) => ((cells.get(name)?.seconds?.median ?? Number.NaN) / least).toFixed(1))
    return [`**${id}**`, short(least), ...ratios]
  })
  return `## The physical limit

Only the unavoidable work, by hand ([limit.sh](../bench/limit.sh)): git, tar, zstd, curl, and the steps without a
container:

${limitLines(limit)
  .map((line) => `- ${line}`)
  .join('\n')}

Conveyor's time as a multiple of that:

${markdown(['', 'limit', ...ours], times)}`
}

function markdown(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)].join('\n')
}

/** Milliseconds by database. */
function listsSection(lists: ListsResult): string {
  const databases = Object.entries(lists)
  const [, first] = databases[0] ?? []
  const cells = (what: string) =>
    databases.flatMap(([, { timings }]) => {
      const timing = timings.find((one) => one.what === what)
      return [timing?.p50.toFixed(1) ?? '-', timing?.p99.toFixed(1) ?? '-']
    })
  const head = databases.flatMap(([name]) => [`${name} p50`, 'p99'])
  const migrated = databases.map(([name, { migratedMs }]) => `${name} ${(migratedMs / 1000).toFixed(0)} s`)
  return `## Lists of builds

Milliseconds for a page of 50, in a store with ${first?.builds.toLocaleString('en') ?? 0} builds of 500 repositories. The migration that lists need
takes, with so many builds: ${migrated.join(', ')}.

${markdown(
  ['', ...head],
  (first?.timings ?? []).map(({ what }) => [what, ...cells(what)]),
)}

A text is looked for in the newest 5,000 builds that fit the rest of the filter, and in the next 5,000 for the next page: no
index finds any text in a million titles at a bounded cost and newest first. Commit ids of 7 digits or more have an index.`
}

function machineSection(machine: Results['machine']): string {
  return `## The machine

${machine.cores} cores, ${machine.memoryGiB} GiB of memory, ${machine.system}, Linux ${machine.kernel}; disks: ${machine.fileSystem}.
Docker Engine ${machine.engine}, Buildah ${machine.buildah}, Git ${machine.git}, Node.js ${machine.node}.`
}

const METHOD = `## What is compared

- **conveyor**: \`conveyor server\` with its defaults, on the engine of Debian 12 with the classic image store. Time is
  measured from the webhook to the last of status and tags.
- **conveyor-containerd**: the same, on Docker 26.1 with containerd's image store.
- **conveyor-buildkit**: the same with \`--builder buildkit\`, on a buildkitd like that of buildctl below.
- **classic**: [classic.sh](../bench/contenders/classic.sh): clone, pull the branch's image as a cache, \`docker build\` of
  the classic builder, three pushes.
- **buildkit**: [buildkit.sh](../bench/contenders/buildkit.sh): clone, \`docker build\` with BuildKit and inline cache, three
  pushes.
- **buildah**: [buildah.sh](../bench/contenders/buildah.sh): clone, \`buildah build --layers\`, three pushes.
- **buildctl**: [buildctl.sh](../bench/contenders/buildctl.sh): clone, \`buildctl build\` on a standalone buildkitd, which packs
  with zstd and pushes all tags in one export.

The repository is always the same, generated by [workload](../bench/workload/shape.ts): 1,500 files with 30 MB in total and
2,000 commits, on a Debian base image of 50 MB. Its Dockerfile installs 60 MB of dependencies in a separate step, copies the
tree, and runs a short build. S2-20k has 20,000 files instead.

Each contender has its own engine and disk, fresh at the start and, for S1 and S4, before each run. They take turns: in each
round every scenario runs on all of them, one at a time. After each run the image is verified: its three tags are the same
image, and the hashes that its build step wrote are those of the commit's files.

## Run it

As root on Debian, with 20 GB of free disk:

\`\`\`sh
make bench                                                        # everything, and writes this page
npm run bench -- --runs 1 --scenarios S2,S3 --contenders conveyor,buildkit --parts flows    # a quick look
\`\`\``

if (import.meta.main) {
  const file = process.argv[2] ?? join(projectRoot, '.conveyor/bench/results.json')
  await writeReport(JSON.parse(await readFile(file, 'utf8')) as Results)
  say('docs/benchmarks.md is written')
}
