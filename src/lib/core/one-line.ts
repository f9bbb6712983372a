/**
 * Characters that end a line or change how it is displayed: controls (escape sequences begin with one), line and
 * paragraph separators, bidirectional marks, lone surrogates.
 */
const CONTROL = '\\p{Cc}\\p{Cs}\\u2028\\u2029\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\ufeff'
const CONTROLS = new RegExp(`[${CONTROL}][${CONTROL} ]*`, 'gu')

/**
 * Makes external text (a name, a path, an error) safe to quote in a line: each run of such characters, with the spaces
 * that follow, becomes one space, so that the text neither begins a new line nor moves a terminal's cursor.
 */
export function oneLine(text: string): string {
  return text.replace(CONTROLS, ' ').trim()
}

/** Where lines go: a LogWriter, for example. */
interface LineSink {
  write(text: string): Promise<void>
}

/** Returns a function that writes Conveyor's own lines to a build's log; each stays one line, whatever it quotes. */
export function linesTo(log: LineSink): (...lines: string[]) => Promise<void> {
  return (...lines) => log.write(lines.map((line) => `${oneLine(line)}\n`).join(''))
}
