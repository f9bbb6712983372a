import { randomBytes } from 'node:crypto'

/** How long builds take by the benchmark's scenarios, and how many of them there are in a team's day. */
const MIX = [
  { what: 'a commit or content that was built before', seconds: 0.1, share: 0.15 },
  { what: 'a line changed', seconds: 2.6, share: 0.65 },
  { what: 'a dependency changed', seconds: 5.3, share: 0.15 },
  { what: 'a worker that is cold', seconds: 10, share: 0.05 },
]

export const MEAN_SECONDS = MIX.reduce((sum, { seconds, share }) => sum + seconds * share, 0)

/** The rate that the builds' lengths are scaled for: 20,000 an hour. */
const HEAVY = 20_000 / 60

/**
 * How many times longer than in the benchmark builds are, so that `busy` workers build at `perMinute`. Not
 * longer than at 20,000 builds an hour: with fewer builds there is less to do.
 */
export function scaleFor(perMinute: number, busy: number): number {
  return busy / ((Math.max(perMinute, HEAVY) / 60) * MEAN_SECONDS)
}

/** How long a new build takes, in seconds. */
export function newBuild(scale: number): number {
  return scale * pick(MIX.map(({ seconds, share }) => [seconds, share]))
}

/** What is left of a build that one meets half-way: of long ones one meets more. */
export function runningBuild(scale: number): number {
  return scale * pick(MIX.map(({ seconds, share }) => [seconds, share * seconds])) * Math.random()
}

function pick(weighted: [value: number, weight: number][]): number {
  let left = Math.random() * weighted.reduce((sum, [, weight]) => sum + weight, 0)
  for (const [value, weight] of weighted) {
    left -= weight
    if (left <= 0) return value
  }
  throw new Error('there is nothing to pick from')
}

/** A new commit id that says how long its build takes. */
export function shaOf(seconds: number): string {
  return (
    Math.round(seconds * 1000)
      .toString(16)
      .padStart(8, '0') + randomBytes(16).toString('hex')
  )
}

/** Milliseconds that the build of such a commit takes. */
export function holdOf(sha: string): number {
  return Number.parseInt(sha.slice(0, 8), 16)
}

export const REPOSITORIES = 200

/** Few repositories have most of the pushes: the first has about 13 %, the hundredth 0.2 %. */
export function anyRepository(): string {
  return `acme/app-${Math.floor((REPOSITORIES + 1) ** Math.random())}`
}
