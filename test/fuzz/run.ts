import { setTimeout as sleep } from 'node:timers/promises'
import { longestTurn } from '../support/longest-turn.ts'
import { Chance } from './generate/chance.ts'
import type { Kind, Subject, Trial } from './kind.ts'

/** The longest that an input may hold the event loop, in milliseconds of computing. */
export const MOST_MS = 250
/** The most memory that a process may have had, in bytes. */
export const MOST_MEMORY = 400 * 2 ** 20

/** Which inputs are tried. */
export interface Plan {
  seed: number
  from: number
  count: number
}

/** Something that an input did and must not do. */
interface Finding {
  index: number
  what: string
  input: string
}

/** What became of the inputs of a kind. */
export interface Outcome {
  inputs: number
  seconds: number
  longestMs: number
  /** Which input held the event loop longest. */
  longest: number
  /** The most memory that the process had at the last look, in bytes. */
  memory: number
  findings: Finding[]
  figures: string
}

/** More of a kind say no more. */
const MOST_FINDINGS = 10
/** In milliseconds, on a machine however busy. */
const ENDLESS_MS = 60_000
/** Inputs between two looks at memory and at what the subject has to say. */
const BETWEEN_LOOKS = 250

/**
 * Tries inputs one after the other; the same ones for the same name, seed and index.
 * @param memory the most that the process has had, in bytes
 */
export async function runKind(
  name: string,
  kind: Kind,
  { seed, from, count }: Plan,
  memory = peakMemory,
): Promise<Outcome> {
  const begun = performance.now()
  const outcome: Outcome = {
    ...{ inputs: 0, seconds: 0, longestMs: 0, longest: from, memory: 0 },
    ...{ findings: [], figures: '' },
  }
  await using subject = await kind.open()
  for (let index = from; index < from + count; index += 1) {
    if (outcome.findings.length >= MOST_FINDINGS) break
    const trial = subject.draw(new Chance(`${name} ${seed} ${index}`))
    const { ms, problem } = await tried(trial)
    outcome.inputs += 1
    if (ms > outcome.longestMs) Object.assign(outcome, { longestMs: ms, longest: index })
    const isLookDue = outcome.inputs % BETWEEN_LOOKS === 0 || index === from + count - 1
    const what = problem ?? (isLookDue ? await look(subject, memory, outcome) : null)
    if (what !== null) outcome.findings.push({ index, what, input: trial.shown() })
  }
  outcome.seconds = (performance.now() - begun) / 1000
  outcome.figures = subject.figures?.() ?? ''
  return outcome
}

async function tried(trial: Trial): Promise<{ ms: number; problem: string | null }> {
  const turn = longestTurn()
  const ended = new AbortController()
  try {
    await Promise.race([trial.run(), tooLong(ended.signal)])
  } catch (error) {
    turn.ms()
    ended.abort()
    return { ms: 0, problem: `threw ${error instanceof Error ? error.stack : String(error)}` }
  }
  const ms = turn.ms()
  ended.abort()
  return { ms, problem: ms > MOST_MS ? `held the event loop for ${Math.round(ms)} ms` : null }
}

/** Rejects when what is tried has no end. */
async function tooLong(ended: AbortSignal): Promise<never> {
  await sleep(ENDLESS_MS, undefined, { signal: ended }).catch(() => {})
  if (ended.aborted) return new Promise(() => {})
  throw new Error(`it has no end after ${ENDLESS_MS / 1000} s`)
}

async function look(subject: Subject, memory: () => number, outcome: Outcome): Promise<string | null> {
  const before = outcome.memory
  outcome.memory = memory()
  // Reported once: the peak never falls.
  if (outcome.memory > MOST_MEMORY && before <= MOST_MEMORY) {
    return `this input or an earlier one took memory: ${Math.round(outcome.memory / 2 ** 20)} MiB`
  }
  return (await subject.problem?.()) ?? null
}

function peakMemory(): number {
  return process.resourceUsage().maxRSS * 1024
}
