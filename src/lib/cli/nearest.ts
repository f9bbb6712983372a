/** The word that was probably meant: one that begins with `text`, or differs in at most half of its letters. */
export function nearest(text: string, words: readonly string[]): string | null {
  const typed = text.toLowerCase()
  const ranked = words
    .map((word) => ({ word, distance: word.startsWith(typed) ? 0 : editDistance(typed, word) }))
    .filter(({ word, distance }) => distance <= word.length / 2)
    .sort((a, b) => a.distance - b.distance)
  return typed === '' ? null : (ranked[0]?.word ?? null)
}

/** Levenshtein distance: how many letters to insert, delete, or replace. */
function editDistance(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (const [row, letter] of [...from].entries()) {
    const current = [row + 1]
    for (let column = 1; column <= to.length; column++) {
      const replaced = (previous[column - 1] ?? 0) + (letter === to[column - 1] ? 0 : 1)
      current.push(Math.min(replaced, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1))
    }
    previous = current
  }
  return previous[to.length] ?? 0
}
