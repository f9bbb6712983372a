import type { LogWriter } from '../logs/log-store.ts'

/**
 * What may end a line or change how one is shown: controls (escape sequences begin with one), separators of lines
 * and paragraphs, marks that turn the direction of writing, halves of surrogate pairs.
 */
const CONTROL = '\\p{Cc}\\p{Cs}\\u2028\\u2029\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\ufeff'
const CONTROLS = new RegExp(`[${CONTROL}][${CONTROL} ]*`, 'gu')

/**
 * A text of others (a name, a path, an error) as part of a line of ours: each run of characters that are no text,
 * with the blanks of the next line, becomes a space, so that it neither begins a line of its own nor moves a terminal's cursor.
 */
export function oneLine(text: string): string {
  return text.replace(CONTROLS, ' ').trim()
}

/** Writes lines of ours into a build's log; whatever is quoted in one, it stays one. */
export function linesTo(log: Pick<LogWriter, 'write'>): (...lines: string[]) => Promise<void> {
  return (...lines) => log.write(lines.map((line) => `${oneLine(line)}\n`).join(''))
}
