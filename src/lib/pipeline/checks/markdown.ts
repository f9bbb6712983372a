/**
 * Markdown in which texts of the repository stay texts. Every character that could mean something is written as a
 * reference, which CommonMark never takes for markup, and all of it is code, where nobody is mentioned.
 */

/** A text as code, on one line. */
export function code(text: string): string {
  return `<code>${literal(text.replace(/\s+/g, ' '))}</code>`
}

/** Lines as they are. */
export function block(lines: readonly string[]): string {
  return `<pre>${lines.map(literal).join('\n')}</pre>`
}

/** @param rows of cells in Markdown, none of which contains a line break */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(header), line(header.map(() => '---')), ...rows.map(line)].join('\n')
}

function literal(text: string): string {
  const printable = text.toWellFormed().replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, ' ')
  return printable.replace(/[^\p{L}\p{M}\p{N} ]/gu, (character) => `&#${character.codePointAt(0)};`)
}
