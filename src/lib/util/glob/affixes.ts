import type { Pace } from '../pace.ts'

/** Finds which of many texts a path starts with (or ends with), without comparing each. */
export interface Affixes<T> {
  /** Calls `found` with the value of each matching text, longest first. */
  of(path: string, found: (value: T) => void): void
}

/** Whether texts are prefixes or suffixes of paths. */
export type Side = 'start' | 'end'

interface Entry<T> {
  text: string
  values: T[]
  /** The longest other text that this one starts (or ends) with. */
  shorter: Entry<T> | undefined
}

/**
 * In sorted order, the texts that a path starts with are the last one before it, or one that this one starts with, and so
 * on: one binary search, and then only texts that match or nearly do.
 */
export async function affixes<T>(side: Side, kept: Map<string, T[]>, pace: Pace): Promise<Affixes<T>> {
  const compare = side === 'start' ? compareStarts : compareEnds
  const isOf = (text: string, path: string) =>
    side === 'start' ? path.startsWith(text) : path.endsWith(text)
  const all = Array.from(kept, ([text, values]): Entry<T> => ({ text, values, shorter: undefined }))
  const sorted = await pace.sorted(all, (a, b) => compare(a.text, b.text))
  let last: Entry<T> | undefined
  await pace.forEach(sorted, (entry) => {
    while (last && !isOf(last.text, entry.text)) last = last.shorter
    entry.shorter = last
    last = entry
  })

  return {
    of(path, found) {
      let low = 0
      let high = sorted.length
      while (low < high) {
        const middle = (low + high) >>> 1
        if (compare(sorted[middle]?.text ?? '', path) <= 0) low = middle + 1
        else high = middle
      }
      let entry = sorted[low - 1]
      while (entry && !isOf(entry.text, path)) entry = entry.shorter
      for (; entry; entry = entry.shorter) for (const value of entry.values) found(value)
    },
  }
}

function compareStarts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Compares two texts as if both were reversed. */
function compareEnds(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let i = 1; i <= length; i++) {
    const difference = a.charCodeAt(a.length - i) - b.charCodeAt(b.length - i)
    if (difference !== 0) return difference
  }
  return a.length - b.length
}
