import { ConveyorError } from '../../src/lib/core/errors.ts'
import type { Chance } from './generate/chance.ts'

/** One input, and how to run it. */
export interface Trial {
  /** The input, for the report of a finding. */
  shown: () => string
  /** Checked for exceptions, and for how long it blocks the event loop. */
  run(): Promise<void>
}

/** The code under test for a kind of input; closed after the last one. */
export interface Subject extends AsyncDisposable {
  draw(chance: Chance): Trial
  /** A problem after some or all of the inputs; null if there is none. */
  problem?(): Promise<string | null>
  /** An additional line of figures for the report. */
  figures?(): string
}

/** A kind of input. */
export interface Kind {
  /** How many of a hundred inputs are of this kind. */
  share: number
  /** How many inputs cover 90% of the parsers' lines with any seed. */
  least: number
  /** The parsers that these inputs are for: files and folders of src/lib. */
  parsers: readonly string[]
  open(): Promise<Subject>
}

/** A subject without resources. */
export function plain(draw: (chance: Chance) => Trial): () => Promise<Subject> {
  return async () => ({ draw, async [Symbol.asyncDispose]() {} })
}

/** Ignores a ConveyorError, which rejects the input as intended; rethrows everything else. */
export async function mayRefuse(work: () => unknown): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof ConveyorError)) throw error
  }
}

/** A readable excerpt of an input. */
export function excerpt(value: unknown): string {
  const text = value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : String(value)
  const shown = JSON.stringify(text.slice(0, 400))
  return text.length > 400 ? `${shown}... (${text.length})` : shown
}
