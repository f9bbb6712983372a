import type { Step } from '../../core/timeline.ts'

interface Timed {
  number: number
  inputs: number[]
  from: number
  to: number
}

/**
 * The numbers of the steps that determined when the last one ended, in order. Each waited for the one before it: the input
 * that ended last. Where that is none of its inputs (the export, and the first steps of the Dockerfile, wait for
 * BuildKit's frontend; and steps from the cache do not wait for theirs), it is the step that ended last before it began.
 */
export function criticalPath(steps: readonly Step[]): number[] {
  const left = new Map(steps.flatMap(timedOf).map((step) => [step.number, step]))
  const path: number[] = []
  for (let step = lastOf(left.values()); step; ) {
    const { inputs, from, number } = step
    path.unshift(number)
    // Steps without a duration could otherwise come twice.
    left.delete(number)
    const before = (one: Timed) => one.to <= from
    const waitedFor = inputs.flatMap((input) => left.get(input) ?? []).filter(before)
    step = lastOf(waitedFor) ?? lastOf([...left.values()].filter(before))
  }
  return path
}

function timedOf({ number, inputs, startedAt, completedAt }: Step): Timed[] {
  if (startedAt === null || completedAt === null) return []
  return [{ number, inputs, from: Date.parse(startedAt), to: Date.parse(completedAt) }]
}

/** The step that ended last; of several, the one with the lowest number. */
function lastOf(steps: Iterable<Timed>): Timed | undefined {
  let last: Timed | undefined
  for (const step of steps) {
    if (!last || step.to > last.to || (step.to === last.to && step.number < last.number)) last = step
  }
  return last
}
