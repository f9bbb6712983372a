import type { ChalkInstance } from 'chalk'
import { oneLine } from '../../core/one-line.ts'

/** A step of a build as a terminal shows it. */
export interface ShownStep {
  /** Its number in the log, `#5`. */
  number: number
  name: string
  state: 'running' | 'done' | 'cached' | 'failed' | 'cancelled'
  /** How long it took, or has been running. */
  seconds: number
  /** The last lines of its output, oldest first. */
  tail: readonly string[]
}

/** What is drawn, and how. */
export interface Frame {
  title: string
  /** Since the command started to follow the build. */
  seconds: number
  steps: readonly ShownStep[]
  columns: number
  /** The most rows that may be drawn. */
  rows: number
  colors: ChalkInstance
}

const MARKS = { running: '•', done: '✔', cached: '✔', failed: '✘', cancelled: '✘' } as const
/** Lines of output below each running step. */
const TAIL = 4

/** One row of a step: its mark, its name, and its time or `CACHED` at the right edge. */
export function stepRow({ name, state, seconds, number }: ShownStep, columns: number, colors: ChalkInstance) {
  // The last column stays free: some terminals wrap a row that fills it.
  const right = state === 'cached' ? 'CACHED' : `${seconds.toFixed(1)}s`
  const room = columns - right.length - 5
  const label = fitted(`#${number} ${oneLine(name)}`, room)
  const mark = MARKS[state]
  const row = ` ${mark} ${label.text}${' '.repeat(Math.max(1, room - label.width + 1))}${right}`
  if (state === 'failed') return colors.red(row)
  if (state === 'cancelled') return colors.yellow(row)
  if (state === 'cached') return colors.dim(row)
  return state === 'done'
    ? `${colors.green(` ${mark}`)}${row.slice(2)}`
    : `${colors.cyan(` ${mark}`)}${row.slice(2)}`
}

/** The lines below the steps that have ended: a title, and the running steps with the last lines of their output. */
export function liveRows({ title, seconds, steps, columns, rows, colors }: Frame): string[] {
  const running = steps.filter(({ state }) => state === 'running')
  const head = colors.bold(fitted(`${title}  ${seconds.toFixed(1)}s`, columns - 1).text)
  const room = Math.max(0, rows - 1)
  // Steps before output: with many of them at once, each still has its row.
  const shown = running.slice(0, room)
  const perStep = shown.length === 0 ? 0 : Math.min(TAIL, Math.floor((room - shown.length) / shown.length))
  const body = shown.flatMap((step) => [
    stepRow(step, columns, colors),
    ...step.tail
      .slice(step.tail.length - Math.min(perStep, step.tail.length))
      .map((line) => tailRow(line, columns, colors)),
  ])
  return [head, ...body]
}

/** A line of a step's output. */
export function tailRow(line: string, columns: number, colors: ChalkInstance): string {
  return colors.dim(fitted(`   │ ${oneLine(line)}`, columns - 1).text)
}

/** The beginning of a text that fits into so many columns, with an ellipsis if it is cut. */
function fitted(text: string, columns: number): { text: string; width: number } {
  let width = 0
  let end = 0
  /** Where to cut so that the ellipsis fits, too. */
  let cut = 0
  let cutWidth = 0
  for (const character of text) {
    const next = width + widthOf(character)
    if (next > columns) return { text: `${text.slice(0, cut)}…`, width: cutWidth + 1 }
    width = next
    end += character.length
    if (width < columns) {
      cut = end
      cutWidth = width
    }
  }
  return { text, width }
}

const COMBINING = /\p{Mark}|\p{Default_Ignorable_Code_Point}/u
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u

/** Columns that a character takes: none for marks that combine, two for East Asian wide ones and emoji. */
function widthOf(character: string): number {
  if (character < '\u0300') return 1
  if (COMBINING.test(character)) return 0
  return WIDE.test(character) ? 2 : 1
}
