/** A table; cells are Markdown already. */
export function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`.replace(/ {2,}/g, ' ')
  return [line(head), `|${head.map(() => '---|').join('')}`, ...rows.map(line)].join('\n')
}

/** Plain text in a cell. */
export function text(plain: string): string {
  return plain.replace(/[|*<]/g, (character) => `\\${character}`)
}

export function code(plain: string): string {
  return `\`${plain.replaceAll('|', '\\|')}\``
}

/** Parts of a page with an empty line in between; empty ones are left out. */
export function page(...parts: string[]): string {
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`
}
