import { ConveyorError } from '../../src/lib/core/errors.ts'
import type { Chance } from './generate/chance.ts'

/** One input, and what is done with it. */
export interface Trial {
  /** The input, for whoever looks at what was found. */
  shown: () => string
  /** What it throws, and how long it holds the event loop, is what is looked at. */
  run(): Promise<void>
}

/** What inputs of a kind are tried on; closed when they are through. */
export interface Subject extends AsyncDisposable {
  draw(chance: Chance): Trial
  /** What is wrong after all inputs, or after some of them; null for nothing. */
  problem?(): Promise<string | null>
  /** A line of figures of its own for the report. */
  figures?(): string
}

/** A kind of input. */
export interface Kind {
  /** How many of a hundred inputs are of this kind. */
  share: number
  /** How many inputs reach 90 % of the parsers' lines with any seed. */
  least: number
  /** The parsers that these inputs are for: files and folders of src/lib. */
  parsers: readonly string[]
  open(): Promise<Subject>
}

/** A subject that needs nothing around it. */
export function plain(draw: (chance: Chance) => Trial): () => Promise<Subject> {
  return async () => ({ draw, async [Symbol.asyncDispose]() {} })
}

/** Lets a refusal pass: a ConveyorError is one, everything else is a fault. */
export async function mayRefuse(work: () => unknown): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof ConveyorError)) throw error
  }
}

/** As much of an input as is shown. */
export function excerpt(value: unknown): string {
  const text = value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : String(value)
  const shown = JSON.stringify(text.slice(0, 400))
  return text.length > 400 ? `${shown}... (${text.length})` : shown
}
