import type { Pace } from '../pace.ts'

/**
 * Whether Docker walks a directory although no pattern matches it. It takes `/**` and then `/*` off the end of each
 * pattern. If any still has wildcards, it walks everything; otherwise, only what leads to the rest of a pattern. What
 * only a pattern with both endings matches is then not found.
 * https://github.com/tonistiigi/fsutil/blob/6d9dc2e/filter.go (patternWithoutTrailingGlob)
 */
export async function belowTest(
  patterns: readonly string[],
  pace: Pace,
): Promise<(directory: string) => boolean> {
  const roots: string[] = []
  let isAnywhere = false
  await pace.forEach(patterns, (pattern) => {
    const root = pattern.replace(/\/\*\*$/, '').replace(/\/\*$/, '')
    isAnywhere ||= /[*?[\]^\\]/.test(root)
    roots.push(`${root}/`)
  })
  if (isAnywhere) return () => true
  const sorted = await pace.sorted(roots, (a, b) => (a < b ? -1 : a > b ? 1 : 0))
  return (directory) => {
    const prefix = `${directory}/`
    let low = 0
    let high = sorted.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((sorted[middle] ?? '') < prefix) low = middle + 1
      else high = middle
    }
    return sorted[low]?.startsWith(prefix) ?? false
  }
}
