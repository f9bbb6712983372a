import { setTimeout as sleep } from 'node:timers/promises'
import { longestTurn } from '../support/timing/longest-turn.ts'
import { Chance } from './generate/chance.ts'
import type { Kind, Subject, Trial } from './kind.ts'

/** How long an input may block the event loop, in milliseconds of CPU time. */
export const MOST_MS = 250
/** Limit of a process's peak memory, in bytes. */
export const MOST_MEMORY = 400 * 2 ** 20

/** Which inputs to run. */
export interface Plan {
  seed: number
  from: number
  count: number
}

/** A problem that an input caused. */
interface Finding {
  index: number
  what: string
  input: string
}

/** The results of the inputs of a kind. */
export interface Outcome {
  inputs: number
  seconds: number
  longestMs: number
  /** Index of the input that blocked the event loop longest. */
  longest: number
  /** Peak memory of the process at the last check, in bytes. */
  memory: number
  findings: Finding[]
  figures: string
}

/** More findings of a kind add nothing. */
const MOST_FINDINGS = 10
/** In milliseconds; enough even on a busy machine. */
const ENDLESS_MS = 60_000
/** Number of inputs between two checks of memory and subject. */
const BETWEEN_LOOKS = 250

/**
 * Runs inputs one after another. The same name, seed and index give the same input.
 * @param memory returns the peak memory of the process, in bytes
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
  return { ms, problem: ms > MOST_MS ? `blocked the event loop for ${Math.round(ms)} ms` : null }
}

/** Rejects if a trial never finishes. */
async function tooLong(ended: AbortSignal): Promise<never> {
  await sleep(ENDLESS_MS, undefined, { signal: ended }).catch(() => {})
  if (ended.aborted) return new Promise(() => {})
  throw new Error(`still running after ${ENDLESS_MS / 1000} s`)
}

async function look(subject: Subject, memory: () => number, outcome: Outcome): Promise<string | null> {
  const before = outcome.memory
  outcome.memory = memory()
  // Reported once: the peak never falls.
  if (outcome.memory > MOST_MEMORY && before <= MOST_MEMORY) {
    return `this input or an earlier one used too much memory: ${Math.round(outcome.memory / 2 ** 20)} MiB`
  }
  return (await subject.problem?.()) ?? null
}

function peakMemory(): number {
  return process.resourceUsage().maxRSS * 1024
}
