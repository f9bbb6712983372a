import { oneLine } from './one-line.ts'
import type { SourceExcerpt } from './timeline.ts'

/**
 * What went wrong, from the point of view of the person who requested the build.
 *
 * - `invalid`: the request is invalid (a bad ref, flag, payload or Dockerfile path).
 * - `unauthorized`: credentials are missing or wrong.
 * - `not_found`: the repository, commit, branch or build does not exist, or access to it is denied.
 * - `build_failed`: the build ran and failed: a failing RUN, a missing file for COPY.
 * - `unavailable`: something that Conveyor needs (engine, registry, git server, disk) did not work.
 * - `timeout`, `cancelled`: the build was aborted.
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
  /** What is invalid, for programs: a key of the body, a query parameter, or a header. */
  field?: string | undefined
  /** Whether a retry may succeed. Defaults to true for `unavailable` only. */
  retryable?: boolean
  /** How long to wait before a retry (Retry-After), in milliseconds. */
  retryAfterMs?: number | undefined
  cause?: unknown
  /** What exactly went wrong, where something is decided by it. */
  code?: 'no_dockerfile'
  /** What did not work, if that is another system whose errors are counted. */
  system?: 'registry'
  /** The message deliberately has several lines; what it quotes must be single lines already. */
  list?: boolean
}

/** In characters. Nobody reads more, but it would be stored and sent every time. */
const LONGEST_MESSAGE = 4000

/**
 * The one error class of Conveyor. `message` says what failed and on what (never a secret);
 * `hint` says what to do next; `retryable` says whether a retry can help. Message and hint are one line of printable
 * text each, whatever they quote.
 */
export class ConveyorError extends Error {
  override readonly name = 'ConveyorError'
  readonly kind: ErrorKind
  readonly hint: string | undefined
  readonly field: string | undefined
  readonly retryable: boolean
  readonly retryAfterMs: number | undefined
  readonly code: 'no_dockerfile' | undefined
  readonly system: 'registry' | undefined
  /** The lines that it is about, where that is known; they may contain secrets. */
  excerpt: SourceExcerpt | undefined

  constructor(kind: ErrorKind, message: string, options: ErrorOptions = {}) {
    const text = options.list ? message : short(oneLine(message))
    super(text, options.cause === undefined ? undefined : { cause: options.cause })
    this.kind = kind
    this.hint = options.hint === undefined ? undefined : oneLine(options.hint)
    this.field = options.field
    this.retryable = options.retryable ?? kind === 'unavailable'
    this.retryAfterMs = options.retryAfterMs
    this.code = options.code
    this.system = options.system
  }

  /** Message and hint in one line, as logs and the CLI show them. */
  get advice(): string {
    return this.hint ? `${this.message}. ${this.hint}` : this.message
  }
}

/** The request contradicts the state of what it names: a build that has ended cannot be cancelled. HTTP 409. */
export class ConflictError extends ConveyorError {
  constructor(message: string, options: ErrorOptions = {}) {
    super('invalid', message, options)
  }
}

/** An Idempotency-Key was used for another request. HTTP 422. */
export class KeyReusedError extends ConveyorError {
  constructor() {
    super('invalid', 'this Idempotency-Key was used for another request', {
      field: 'Idempotency-Key',
      hint: 'Use a new key for every request, and the same one only to repeat it',
    })
  }
}

function short(text: string): string {
  return text.length > LONGEST_MESSAGE ? `${text.slice(0, LONGEST_MESSAGE).toWellFormed()}…` : text
}

/** Turns anything thrown into a ConveyorError; other errors become `unavailable`. */
export function toConveyorError(thrown: unknown, what: string): ConveyorError {
  if (thrown instanceof ConveyorError) return thrown
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  return new ConveyorError('unavailable', `${what}: ${message}`, { cause: thrown })
}
