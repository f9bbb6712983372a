/** A text on one line, without control characters, cut to so many characters. */
export function shortLine(text: string, length: number): string {
  // The rest of a huge text is not needed.
  const line = text.slice(0, 10_000).replace(/[\s\p{Cc}]+/gu, ' ')
  const points = [...line.toWellFormed().trim()]
  if (points.length <= length) return points.join('')
  return `${points
    .slice(0, length - 1)
    .join('')
    .trimEnd()}…`
}
