import { MEAN_SECONDS } from './mix.ts'
import type { StepFigures } from './step.ts'
import { milliseconds, sqsDollars, type Table } from './table.ts'

/** Share of the workers that should be busy: above it, builds wait for each other. */
const BUSY = 0.7
const RATES = [10, 100, 1000]

/** Recommended sizes for each rate, based on the measurements of the largest fleet. */
export function sizingTable(all: StepFigures[]): Table {
  const steps = all.toSorted((a, b) => b.processes - a.processes)
  const head = [
    'builds a minute',
    'workers (mean build 3 s)',
    '(mean build 60 s)',
    'Postgres, queue in it',
    'wait p50, p95',
    'Postgres, queue on SQS',
    'wait p50, p95',
    'SQS, dollars a month',
  ]
  const rows = RATES.map((perMinute) => {
    const workers = (seconds: number) => `${Math.ceil((perMinute / 60) * (seconds / BUSY))}`
    const seen = (queue: StepFigures['queue']) =>
      steps.find((step) => step.queue === queue && step.logs === 'elsewhere' && step.perMinute === perMinute)
    const cells = (step: StepFigures | undefined) => [
      step ? `${step.database.cores.toFixed(2)} cores` : '-',
      step?.waitMs ? `${milliseconds(step.waitMs.p50)}, ${milliseconds(step.waitMs.p95)}` : '-',
    ]
    const sqs = seen('sqs')
    return [
      ...[`${perMinute}`, workers(MEAN_SECONDS), workers(60)],
      ...[...cells(seen('postgres')), ...cells(sqs), sqs ? sqsDollars(sqs).toFixed(0) : '-'],
    ]
  })
  return { title: 'What each rate needs', rows: [head, ...rows] }
}
