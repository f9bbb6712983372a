import type { MadeFrom, Step, Timeline } from '../../core/timeline.ts'

/** One line on each side; null: only the other side has it. */
export interface LinePair {
  a: string | null
  b: string | null
}

/** Comparisons that are made to align lines; more are compared by position. */
const MOST_WORK = 250_000

/** The lines that differ, in order, aligned by the longest common subsequence. */
export function differingLines(a: readonly string[], b: readonly string[]): LinePair[] {
  let from = 0
  while (from < a.length && from < b.length && a[from] === b[from]) from += 1
  let [endA, endB] = [a.length, b.length]
  while (endA > from && endB > from && a[endA - 1] === b[endB - 1]) {
    endA -= 1
    endB -= 1
  }
  const [left, right] = [a.slice(from, endA), b.slice(from, endB)]
  if (left.length * right.length > MOST_WORK) return paired(left, right)
  const pairs: LinePair[] = []
  const [lonelyA, lonelyB]: [string[], string[]] = [[], []]
  const flush = () => pairs.push(...paired(lonelyA.splice(0), lonelyB.splice(0)))
  const lengths = commonLengths(left, right)
  for (let i = 0, j = 0; i < left.length || j < right.length; ) {
    if (i < left.length && j < right.length && left[i] === right[j]) {
      flush()
      i += 1
      j += 1
    } else if (j >= right.length || (i < left.length && at(lengths, i + 1, j) >= at(lengths, i, j + 1))) {
      lonelyA.push(left[i++] ?? '')
    } else lonelyB.push(right[j++] ?? '')
  }
  flush()
  return pairs
}

/** Lengths of the longest common subsequences of the rests from each position on. */
function commonLengths(a: string[], b: string[]): number[][] {
  const lengths = Array.from({ length: a.length + 1 }, () => new Array<number>(b.length + 1).fill(0))
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      const row = lengths[i] as number[]
      row[j] =
        a[i] === b[j] ? at(lengths, i + 1, j + 1) + 1 : Math.max(at(lengths, i + 1, j), at(lengths, i, j + 1))
    }
  }
  return lengths
}

function at(lengths: number[][], i: number, j: number): number {
  return lengths[i]?.[j] ?? 0
}

function paired(a: string[], b: string[]): LinePair[] {
  return Array.from({ length: Math.max(a.length, b.length) }, (_, i) => ({
    a: a[i] ?? null,
    b: b[i] ?? null,
  }))
}

/** Base images whose digests differ. */
export function differingBases(a: MadeFrom, b: MadeFrom): ({ name: string } & LinePair)[] {
  const digestIn = ({ bases }: MadeFrom, name: string) =>
    bases.find((base) => base.name === name)?.digest ?? null
  const names = new Set([...a.bases, ...b.bases].map(({ name }) => name))
  return [...names]
    .map((name) => ({ name, a: digestIn(a, name), b: digestIn(b, name) }))
    .filter((pair) => pair.a !== pair.b)
}

/** Settings that differ, by name. */
export function differingSettings(
  a: MadeFrom,
  b: MadeFrom,
): { name: string; change: 'added' | 'removed' | 'changed' }[] {
  const names = [...new Set([...Object.keys(a.settings), ...Object.keys(b.settings)])].sort()
  return names
    .filter((name) => a.settings[name] !== b.settings[name])
    .map((name) => {
      const change = !(name in a.settings) ? 'added' : !(name in b.settings) ? 'removed' : 'changed'
      return { name, change }
    })
}

interface StepTime {
  number: number
  state: Step['state']
  /** Null if it has not ended. */
  ms: number | null
}

/** The steps of two builds, those with the same name side by side. */
export function stepPairs(
  a: Pick<Timeline, 'steps'>,
  b: Pick<Timeline, 'steps'>,
): { name: string; a: StepTime | null; b: StepTime | null }[] {
  // `[build 2/5] RUN x` is the same step as `[build 2/6] RUN x`.
  const keyOf = ({ name }: Step) => name.replace(/^\[((?:[^\] ]+ )*)\d+\/\d+\]/, '[$1]')
  const waiting = new Map<string, Step[]>()
  for (const step of b.steps) {
    const key = keyOf(step)
    const same = waiting.get(key)
    if (same) same.push(step)
    else waiting.set(key, [step])
  }
  const pairs = a.steps.map((step) => {
    const other = waiting.get(keyOf(step))?.shift()
    return { name: other?.name ?? step.name, a: timeOf(step), b: other ? timeOf(other) : null }
  })
  const rest = new Set([...waiting.values()].flat())
  return [
    ...pairs,
    ...b.steps
      .filter((step) => rest.has(step))
      .map((step) => ({ name: step.name, a: null, b: timeOf(step) })),
  ]
}

function timeOf({ number, state, startedAt, completedAt }: Step): StepTime {
  const ended = startedAt !== null && completedAt !== null
  return { number, state, ms: ended ? Math.max(0, Date.parse(completedAt) - Date.parse(startedAt)) : null }
}
