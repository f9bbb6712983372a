import type { ChalkInstance } from 'chalk'
import { type LogStep, PlainLog, parseRow, stepKey } from '../../core/build-log/plain-log.ts'
import { LogRows } from '../../core/build-log/rows.ts'
import { oneLine } from '../../core/one-line.ts'
import { liveRows, type ShownStep, stepRow, tailRow } from './frame.ts'
import type { Output, ProgressView } from './view.ts'

interface TerminalOptions {
  /** What is being built: the first row below the steps that have ended. */
  title: string
  colors: ChalkInstance
  /** In milliseconds. */
  now?: () => number
  /** Milliseconds between two drawings. */
  everyMs?: number
}

/** Lines of output that are kept of each step: shown below it if it fails. */
const TAIL = 20
/** In bytes; longer than a row of any terminal. */
const LONGEST_LINE = 2000
const ERASE_BELOW = '\x1b[J'
/** Of a terminal that does not tell its size. */
const COLUMNS = 80
const ROWS = 24

/**
 * Shows the log of a build in a terminal as its steps: those that have ended scroll up, one row each; those that are
 * running stay at the bottom, with the last lines of their output.
 */
export class TerminalProgress implements ProgressView {
  readonly #terminal: Output
  readonly #title: string
  readonly #colors: ChalkInstance
  readonly #now: () => number
  readonly #timer: NodeJS.Timeout
  readonly #startedAt: number
  readonly #rows = new LogRows()
  readonly #log = new PlainLog()
  /** Of the steps that have not scrolled up, by key. */
  readonly #steps = new Map<string, { since: number; tail: string[] }>()
  /** What scrolls up with the next drawing. */
  #above: string[] = []
  /** How many steps have scrolled up. */
  #printed = 0
  /** Rows at the bottom that the next drawing replaces. */
  #live = 0

  constructor(
    terminal: Output,
    { title, colors, now = () => performance.now(), everyMs = 100 }: TerminalOptions,
  ) {
    this.#terminal = terminal
    this.#title = oneLine(title)
    this.#colors = colors
    this.#now = now
    this.#startedAt = now()
    this.#timer = setInterval(() => this.draw(), everyMs)
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (const row of this.#rows.push(bytes)) this.#take(row)
  }

  say(line: string): void {
    this.#above.push(oneLine(line))
  }

  async end(): Promise<void> {
    clearInterval(this.#timer)
    const rest = this.#rows.end()
    if (rest) this.#take(rest)
    this.#draw(false)
    await new Promise<void>((resolve) => this.#terminal.write('', () => resolve()))
  }

  #take(row: Uint8Array): void {
    const known = this.#log.stepCount
    this.#log.take(row)
    const parsed = parseRow(row.subarray(0, LONGEST_LINE))
    if (parsed.kind === 'note') {
      const text = oneLine(utf8.decode(parsed.text))
      if (text !== '') this.#above.push(text)
    } else if (parsed.kind === 'output') {
      const step = this.#step({ attempt: this.#log.attemptOf(this.#log.rows), number: parsed.step })
      step.tail.push(lastState(utf8.decode(parsed.text)))
      if (step.tail.length > TAIL) step.tail.shift()
    }
    if (this.#log.stepCount === known) return
    const begun = this.#log.steps.at(-1)
    if (begun) this.#step(begun)
  }

  #step(of: { attempt: number; number: number }): { since: number; tail: string[] } {
    const key = stepKey(of)
    const step = this.#steps.get(key) ?? { since: this.#now(), tail: [] }
    this.#steps.set(key, step)
    return step
  }

  #shown(step: LogStep): ShownStep {
    const { since, tail } = this.#step(step)
    const running = step.state === 'running'
    const seconds = running ? (this.#now() - since) / 1000 : (step.seconds ?? 0)
    return { number: step.number, name: step.name, state: step.state, seconds, tail }
  }

  /** Draws the present state. */
  draw(): void {
    this.#draw(true)
  }

  /** Moves the steps that have ended up, in order, and draws the others anew if they are still `live`. */
  #draw(live: boolean): void {
    const { columns = COLUMNS, rows = ROWS } = this.#terminal
    const colors = this.#colors
    const steps = this.#log.steps
    for (
      let step = steps[this.#printed];
      step && (step.state !== 'running' || !live);
      step = steps[this.#printed]
    ) {
      const shown = this.#shown(step)
      this.#above.push(stepRow(shown, columns, colors))
      if (step.state === 'failed')
        this.#above.push(...shown.tail.map((line) => tailRow(line, columns, colors)))
      this.#steps.delete(stepKey(step))
      this.#printed++
    }
    const waiting = steps.slice(this.#printed).map((step) => this.#shown(step))
    const seconds = (this.#now() - this.#startedAt) / 1000
    const below = live
      ? liveRows({ title: this.#title, seconds, steps: waiting, columns, rows: rows - 1, colors })
      : []
    const up = this.#live === 0 ? '' : `\x1b[${this.#live}A\r`
    const text = [...this.#above, ...below].map((row) => `${row}\n`).join('')
    this.#terminal.write(`${up}${ERASE_BELOW}${text}`)
    this.#above = []
    this.#live = below.length
  }
}

const utf8 = new TextDecoder()

/** A progress bar draws over itself: only its last state is shown. */
function lastState(line: string): string {
  return line.replace(/\r+$/, '').replace(/^.*\r/s, '')
}
