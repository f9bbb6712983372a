import { Chalk } from 'chalk'

/** What the demo prints: headings, labelled facts, logs behind a bar. Plain text if the output has no colors. */

const chalk = process.env.NO_COLOR ? new Chalk({ level: 0 }) : new Chalk()
const LABEL_WIDTH = 10

function print(line = ''): void {
  process.stdout.write(`${line}\n`)
}

export function title(text: string): void {
  print(chalk.bold(text))
}

export function heading(text: string): void {
  print(`\n${chalk.bold(text)}`)
}

/** `label     text`; a text of several lines stays in its column. */
export function fact(label: string, text: string): void {
  const [first, ...rest] = text.split('\n')
  print(`  ${chalk.dim(label.padEnd(LABEL_WIDTH))}${first}`)
  for (const line of rest) print(`  ${' '.repeat(LABEL_WIDTH)}${line}`)
}

export function logLine(line: string): void {
  print(`  ${chalk.dim(`| ${line}`)}`)
}

/** A commit status, as GitHub would show it. */
export function status(state: string, description: string | null): void {
  const paint = state === 'success' ? chalk.green : state === 'pending' ? chalk.yellow : chalk.red
  fact('status', `${paint(state)}  ${description ?? ''}`)
}

/** Lines that begin with + and -. */
export function diff(text: string): void {
  for (const line of text.split('\n'))
    print(`  ${line.startsWith('+') ? chalk.green(line) : chalk.red(line)}`)
}

/** Rows of cells, the first row being the head; the first column is text, the others are figures. */
export function table(rows: string[][]): void {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  for (const [index, row] of rows.entries()) {
    const cells = row.map((cell, column) => {
      const width = widths[column] ?? 0
      return column === 0 ? cell.padEnd(width) : cell.padStart(width)
    })
    const line = `  ${cells.join('   ')}`.trimEnd()
    print(index === 0 ? chalk.dim(line) : line)
  }
}

export function paragraph(text: string): void {
  for (const line of text.split('\n')) print(`  ${line}`)
}

export function failure(text: string): void {
  print(`\n${chalk.red(text)}`)
}
