import { oneLine } from '../core/one-line.ts'

/** A table, aligned for a terminal, with its header; empty without rows. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return ''
  const all = [header, ...rows].map((row) => row.map(oneLine))
  const widths = header.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  const line = (row: string[]) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')
  return all.map((row) => `${line(row).trimEnd()}\n`).join('')
}
