import type { Percentiles, Step, StepFigures } from './step.ts'

/** A heading, and rows of which the first names the columns. */
export interface Table {
  title: string
  rows: string[][]
}

/** The figures of each step: builds, database, and requests to SQS. */
export function simulationTables(steps: StepFigures[]): Table[] {
  const kinds = Map.groupBy(steps, kindOf)
  return [...kinds].flatMap(([title, ofKind]) => {
    const sorted = ofKind.toSorted((a, b) => a.perMinute - b.perMinute)
    const tables = [
      { title: `${title}: builds`, rows: [BUILDS, ...sorted.map(buildRow)] },
      { title: `${title}: database`, rows: [DATABASE, ...sorted.map(databaseRow)] },
    ]
    const onSqs = sorted.filter(({ queue }) => queue === 'sqs')
    if (onSqs.length > 0)
      tables.push({ title: `${title}: requests to SQS`, rows: [SQS, ...onSqs.map(sqsRow)] })
    return tables
  })
}

/** What was simulated, apart from the rate of builds. */
export function kindOf({ queue, logs, processes }: Step & { processes: number }): string {
  const name = queue === 'sqs' ? 'Queue on SQS' : 'Queue in Postgres'
  return `${name}${logs === 'database' ? ', build logs too' : ''}; ${processes} processes`
}

const BUILDS = [
  'builds a minute',
  'busy workers',
  'wait p50',
  'p95',
  'p99',
  'accepted in p50',
  'p99',
  'still waiting at the end',
  'restarted',
  'problems',
  "simulator's cores",
  "simulator's delay p99",
]

function buildRow(step: StepFigures): string[] {
  return [
    `${step.perMinute}`,
    `${step.building}`,
    ...times(step.waitMs),
    ...times(step.acceptMs).filter((_, i) => i !== 1),
    `${step.waiting}`,
    `${step.repeated}`,
    `${step.problems.count}`,
    step.simulator.cores.toFixed(2),
    milliseconds(step.simulator.loopDelayP99),
  ]
}

const DATABASE = [
  'builds a minute',
  'cores',
  'CPU a build',
  'transactions a second',
  'statements a second',
  'a build',
  'rows changed a build',
  'connections (peak)',
  'memory',
  'waiting for locks (peak)',
  'deadlocks',
]

function databaseRow({ perMinute, accepted, seconds, database }: StepFigures): string[] {
  const perBuild = (perSecond: number) => (accepted === 0 ? null : (perSecond * seconds) / accepted)
  const text = (number: number | null, digits = 0) => number?.toFixed(digits) ?? '-'
  const cpu = perBuild(database.cores)
  return [
    `${perMinute}`,
    database.cores.toFixed(2),
    cpu === null ? '-' : milliseconds(cpu * 1000),
    text(database.transactionsPerSecond),
    text(database.statementsPerSecond),
    text(perBuild(database.statementsPerSecond)),
    text(perBuild(database.rowsPerSecond)),
    `${database.connections.mean.toFixed(0)} (${database.connections.peak})`,
    `${(database.memoryMiB / 1024).toFixed(1)} GiB`,
    `${database.lockWaits.mean.toFixed(1)} (${database.lockWaits.peak})`,
    `${database.deadlocks}`,
  ]
}

/** List price of a million requests to a standard queue, in US dollars: an assumption; regions differ. */
const DOLLARS_PER_MILLION = 0.4
/** The longest that a request for a message waits. */
const POLL_SECONDS = 20

const SQS = [
  'builds a minute',
  'send',
  'receive',
  'extend',
  'delete',
  'at AWS: a second',
  'dollars a month',
  "SQS server's cores",
]

function sqsRow(step: StepFigures): string[] {
  const { perMinute, sqsRequests, sqsCores, accepted } = step
  const perBuild = (count = 0) => (accepted === 0 ? '-' : (count / accepted).toFixed(1))
  return [
    `${perMinute}`,
    perBuild(sqsRequests.SendMessage),
    perBuild(sqsRequests.ReceiveMessage),
    perBuild(sqsRequests.ChangeMessageVisibility),
    perBuild(sqsRequests.DeleteMessage),
    sqsPerSecond(step).toFixed(0),
    sqsDollars(step).toFixed(0),
    sqsCores?.toFixed(2) ?? '-',
  ]
}

/**
 * Requests a second at AWS. The server here ends every request that waits when one message comes, and so gets
 * many more: of receiving, one is counted a build, and one in 20 s for each process that waits.
 */
function sqsPerSecond({ sqsRequests, seconds, accepted, processes, building }: StepFigures): number {
  const { SendMessage = 0, ChangeMessageVisibility = 0, DeleteMessage = 0 } = sqsRequests
  const polls = Math.max(processes - building, 0) / POLL_SECONDS
  return polls + (SendMessage + ChangeMessageVisibility + DeleteMessage + accepted) / seconds
}

/** The cost of that for a month. */
export function sqsDollars(step: StepFigures): number {
  return ((sqsPerSecond(step) * 30 * 24 * 3600) / 1e6) * DOLLARS_PER_MILLION
}

function times(percentiles: Percentiles | null): string[] {
  if (!percentiles) return ['-', '-', '-']
  return [percentiles.p50, percentiles.p95, percentiles.p99].map(milliseconds)
}

/** Milliseconds for people, with two significant digits. */
export function milliseconds(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(1)} s`
}

/** For a terminal. */
export function tableLines({ title, rows }: Table): string[] {
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0))) ?? []
  const lines = rows.map((row) => row.map((text, i) => text.padStart(widths[i] ?? 0)).join('  '))
  return [title, ...lines, '']
}

/** In Markdown. */
export function tableMarkdown({ title, rows: [head = [], ...rows] }: Table): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`
  return [`${title}:`, '', line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n')
}

/** What the database did in a step: what its sessions waited for, and the statements that took longest. */
export function detailLines({ database: { doing, top } }: StepFigures): string[] {
  return [
    `sessions: ${doing.map(({ what, sessions }) => `${what} ${sessions.toFixed(1)}`).join(', ')}`,
    ...top.map(
      ({ statement, callsPerSecond, meanMs, share }) =>
        `${(share * 100).toFixed(0).padStart(3)} %  ${callsPerSecond.toFixed(1).padStart(7)}/s  ${meanMs.toFixed(2).padStart(7)} ms  ${statement}`,
    ),
  ]
}
