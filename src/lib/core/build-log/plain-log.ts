/**
 * What a row of a build's log is. BuildKit's steps are numbered from 1 in every attempt; see buildkit/progress.ts for
 * how they are written.
 */
export type LogRow =
  /** The name of a step, `#5 [2/4] RUN make`: it begins, or its output continues after that of another step. */
  | { kind: 'name'; step: number; name: string }
  /** Output, `#5 0.123 text`; `seconds` since its step began. */
  | { kind: 'output'; step: number; seconds: number; text: Uint8Array }
  /** What else BuildKit says about a step, such as a finished transfer. */
  | { kind: 'detail'; step: number; text: Uint8Array }
  | { kind: 'end'; step: number; state: LogStepState; seconds: number | null; error: string | null }
  /** Conveyor's own line. */
  | { kind: 'note'; text: Uint8Array }

type LogStepState = 'done' | 'cached' | 'failed' | 'cancelled'

/** A step as the log shows it. */
export interface LogStep {
  /** Which attempt of the build it belongs to, from 1. */
  attempt: number
  number: number
  name: string
  state: LogStepState | 'running'
  /** How long it took, or its latest output came after its begin; null if unknown. */
  seconds: number | null
  error: string | null
  /** Its first and last row. */
  first: number
  last: number
}

const HASH = 0x23
const SPACE = 0x20
const DOT = 0x2e
/** Step numbers have at most this many digits. */
const DIGITS = 6
/** The longest name or error that is kept, in bytes. */
export const MAX_TEXT = 2000
/** Of the first steps; logs with far more steps than any Dockerfile has would fill the memory. */
const LONG_TEXTS = 100
/** The longest name or error of the others, in bytes. */
export const SHORT_TEXT = 120
/** More steps than any Dockerfile has. */
const MAX_STEPS = 2000
const ATTEMPT = /^building \S+@[0-9a-f]{40}(?:[0-9a-f]{24})?(?: \(|,|$)/

/** Parses one row, without its newline. Never fails: what is nothing else is a note. */
export function parseRow(row: Uint8Array): LogRow {
  const start = textStart(row)
  if (start < 0) return { kind: 'note', text: row }
  const step = numberAt(row, 1, start - 1)
  const time = timeEnd(row, start)
  if (time > 0) {
    const seconds = Number(decode(row.subarray(start, time - 1)))
    return { kind: 'output', step, seconds, text: row.subarray(time) }
  }
  const text = row.subarray(start)
  const end = parseEnd(step, decode(text.subarray(0, MAX_TEXT)))
  // An error is shown whole.
  return (
    (text.length > MAX_TEXT && end ? parseEnd(step, decode(text)) : end) ?? { kind: 'detail', step, text }
  )
}

function parseEnd(step: number, text: string): LogRow | null {
  if (text === 'CACHED') return { kind: 'end', step, state: 'cached', seconds: null, error: null }
  if (text === 'CANCELED') return { kind: 'end', step, state: 'cancelled', seconds: null, error: null }
  const error = /^ERROR: (.*)$/s.exec(text)?.[1]
  if (error !== undefined) return { kind: 'end', step, state: 'failed', seconds: null, error }
  const [done, seconds] = /^DONE(?: (\d{1,9}\.\d)s)?$/.exec(text) ?? []
  return done === undefined
    ? null
    : {
        kind: 'end',
        step,
        state: 'done',
        seconds: seconds === undefined ? null : Number(seconds),
        error: null,
      }
}

/** Where the text after `#5 ` begins; -1 if the row does not belong to a step. */
function textStart(row: Uint8Array): number {
  if (row[0] !== HASH) return -1
  let at = 1
  while (isDigit(row[at])) at++
  return at > 1 && at <= 1 + DIGITS && row[at] === SPACE ? at + 1 : -1
}

/** Where the text after `0.123 ` begins; -1 if there is no time. */
function timeEnd(row: Uint8Array, start: number): number {
  let at = start
  while (isDigit(row[at])) at++
  if (at === start || at > start + 9 || row[at] !== DOT) return -1
  const point = at++
  while (isDigit(row[at])) at++
  if (at - point !== 4) return -1
  // Output that is an empty line ends with the space.
  return row[at] === SPACE ? at + 1 : -1
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39
}

function numberAt(row: Uint8Array, from: number, to: number): number {
  let value = 0
  for (let at = from; at < to; at++) value = value * 10 + (row[at] ?? 0) - 0x30
  return value
}

const utf8 = new TextDecoder()

function decode(bytes: Uint8Array): string {
  return utf8.decode(bytes)
}

/**
 * The steps of a log, and what each of its rows belongs to, row by row from the first one. Memory is bounded by the
 * number of steps, not by the log.
 */
export class PlainLog {
  readonly #steps = new Map<string, LogStep>()
  #open = new Map<number, LogStep>()
  #attempt = 1
  #rows = 0
  /** Whether the previous row was blank: a step's name always follows a blank one. */
  #afterBlank = true
  /** First rows of the second attempt and those after it. */
  readonly #attempts: number[] = []

  /** The longest text that is kept from now on. */
  get #longest(): number {
    return this.#steps.size <= LONG_TEXTS ? MAX_TEXT : SHORT_TEXT
  }

  /** In the order in which they appeared. */
  get steps(): LogStep[] {
    return [...this.#steps.values()]
  }

  /** How many steps have appeared. */
  get stepCount(): number {
    return this.#steps.size
  }

  /** How many rows were taken. */
  get rows(): number {
    return this.#rows
  }

  /** The attempt that a row belongs to, from 1. */
  attemptOf(row: number): number {
    let attempt = 1
    for (const first of this.#attempts) if (row >= first) attempt++
    return attempt
  }

  /** Takes the next row. */
  take(bytes: Uint8Array): void {
    this.#rows++
    const start = textStart(bytes)
    if (start < 0) this.#note(bytes)
    else this.#ofStep(bytes, start)
    this.#afterBlank = bytes.length === 0
  }

  #note(bytes: Uint8Array): void {
    if (bytes.length > 600 || bytes[0] !== 0x62 || !ATTEMPT.test(decode(bytes))) return
    if (this.#rows === 1 || this.#steps.size + this.#attempts.length >= MAX_STEPS) return
    this.#attempt++
    this.#attempts.push(this.#rows)
    for (const step of this.#open.values()) if (step.state === 'running') step.state = 'cancelled'
    this.#open = new Map()
  }

  #ofStep(bytes: Uint8Array, start: number): void {
    const number = numberAt(bytes, 1, start - 1)
    const step = this.#open.get(number) ?? this.#begin(number, bytes.subarray(start))
    if (!step) return
    step.last = this.#rows
    const time = timeEnd(bytes, start)
    if (time > 0) {
      if (step.state === 'running') step.seconds = Number(decode(bytes.subarray(start, time - 1)))
      return
    }
    if (this.#afterBlank) return
    const row = parseEnd(number, decode(bytes.subarray(start, start + this.#longest)))
    if (row?.kind !== 'end') return
    step.state = row.state
    step.error = row.error
    step.seconds = row.seconds ?? (row.state === 'failed' ? step.seconds : null)
  }

  #begin(number: number, name: Uint8Array): LogStep | undefined {
    if (this.#steps.size >= MAX_STEPS) return undefined
    const step: LogStep = {
      attempt: this.#attempt,
      number,
      name: decode(name.subarray(0, this.#longest)),
      state: 'running',
      seconds: null,
      error: null,
      first: this.#rows,
      last: this.#rows,
    }
    this.#steps.set(stepKey(step), step)
    this.#open.set(number, step)
    return step
  }
}

/** `5`, or `2.5` in the second attempt: identifies a step within its log. */
export function stepKey({ attempt, number }: { attempt: number; number: number }): string {
  return attempt === 1 ? `${number}` : `${attempt}.${number}`
}
