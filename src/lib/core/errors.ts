import { oneLine } from './one-line.ts'

/**
 * What kind of thing went wrong, from the point of view of the person who asked for the build.
 *
 * - `invalid`: the request itself cannot be right (a bad ref, flag, payload or Dockerfile path).
 * - `unauthorized`: credentials are missing or wrong.
 * - `not_found`: the repository, commit, branch or build does not exist, or we may not see it.
 * - `build_failed`: the build ran and its result is "no": a failing RUN, a missing file for COPY.
 * - `unavailable`: a part that Conveyor needs (engine, registry, git server, disk) did not do its work.
 * - `timeout`, `cancelled`: the build was ended from outside.
 */
export type ErrorKind =
  | 'invalid'
  | 'unauthorized'
  | 'not_found'
  | 'build_failed'
  | 'unavailable'
  | 'timeout'
  | 'cancelled'

export interface ErrorOptions {
  /** What to do next, as one imperative sentence for the person who reads the log. */
  hint?: string
  /** Whether the same work may succeed when tried again. Defaults to true for `unavailable` only. */
  retryable?: boolean
  /** How long who could not do it asks to be left alone, in milliseconds. */
  retryAfterMs?: number | undefined
  cause?: unknown
  /** The message is a list of ours over several lines, in which nothing is quoted that has more than one. */
  list?: boolean
}

/** In characters: more is not read, and would be stored and sent all the same. */
const LONGEST_MESSAGE = 4000

/**
 * The one error class of Conveyor. `message` says what failed and on what (never a secret);
 * `hint` says what to do next; `retryable` says whether trying again can help. Both are one line of printable text,
 * whatever is quoted in them.
 */
export class ConveyorError extends Error {
  override readonly name = 'ConveyorError'
  readonly kind: ErrorKind
  readonly hint: string | undefined
  readonly retryable: boolean
  readonly retryAfterMs: number | undefined

  constructor(kind: ErrorKind, message: string, options: ErrorOptions = {}) {
    const text = options.list ? message : short(oneLine(message))
    super(text, options.cause === undefined ? undefined : { cause: options.cause })
    this.kind = kind
    this.hint = options.hint === undefined ? undefined : oneLine(options.hint)
    this.retryable = options.retryable ?? kind === 'unavailable'
    this.retryAfterMs = options.retryAfterMs
  }

  /** Message and hint in one line, as logs and the CLI show them. */
  get advice(): string {
    return this.hint ? `${this.message}. ${this.hint}` : this.message
  }
}

function short(text: string): string {
  return text.length > LONGEST_MESSAGE ? `${text.slice(0, LONGEST_MESSAGE).toWellFormed()}…` : text
}

/** Turns anything thrown into a ConveyorError; what is not one already counts as a broken part. */
export function toConveyorError(thrown: unknown, what: string): ConveyorError {
  if (thrown instanceof ConveyorError) return thrown
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  return new ConveyorError('unavailable', `${what}: ${message}`, { cause: thrown })
}
