/** What may be between two characters of a pattern: nothing, `*`, `**` before more, or anything at all. */
export const GAP = { none: 0, star: 1, dirs: 2, any: 3 } as const

/** One character: a literal, or one of a class (`?`, `[...]`). */
export type Fixed = { char: string } | Class

interface Class {
  char?: undefined
  text: string
  accepts(codePoint: number): boolean
}

/** The characters of a pattern, and the gaps before each of them and after the last. */
export interface GlobSteps {
  fixed: Fixed[]
  /** Values of GAP; one more than there are characters. */
  gaps: readonly number[]
}

const SLASH = 47
const ANY_BUT_SLASH: Fixed = { text: '?', accepts: (codePoint) => codePoint !== SLASH }

/** Letters that stand for a class in Go's regular expressions. */
const ESCAPES: Record<string, RegExp> = {
  d: /\d/,
  D: /\D/,
  s: /[\t\n\f\r ]/,
  S: /[^\t\n\f\r ]/,
  w: /\w/,
  W: /\W/,
}
const NEVER: Fixed = { text: '^', accepts: () => false }

/**
 * Parses a pattern; null if it is malformed.
 * @param isExpression whether it becomes a regular expression of Go (see `expressionOf`), where `^`, letters after a
 * backslash and wildcards in brackets have another meaning than in filepath.Match
 */
export function stepsOf(pattern: string, isExpression: boolean): GlobSteps | null {
  const fixed: Fixed[] = []
  const gaps = [GAP.none as number]
  const take = (one: Fixed) => {
    fixed.push(one)
    gaps.push(GAP.none)
  }
  for (let at = 0; at < pattern.length; ) {
    const char = characterAt(pattern, at)
    if (char === '*') {
      const isDouble = pattern[at + 1] === '*'
      at += !isDouble ? 1 : pattern[at + 2] === '/' ? 3 : 2
      const gap = !isDouble ? GAP.star : at < pattern.length ? GAP.dirs : GAP.any
      gaps[fixed.length] = joined(gaps[fixed.length] ?? GAP.none, gap)
    } else if (char === '?') {
      at += 1
      take(ANY_BUT_SLASH)
    } else if (char === '[') {
      const found = classAt(pattern, at)
      if (!found) return null
      const [one, end] = isExpression ? brokenClass(pattern, at, found) : [found, found.end]
      at = end
      if (one) take(one)
    } else if (char === '\\') {
      if (at + 1 === pattern.length) return null
      const escaped = characterAt(pattern, at + 1)
      at += 1 + escaped.length
      const meaning = isExpression ? ESCAPES[escaped] : undefined
      take(meaning ? charactersOf(meaning) : { char: escaped })
    } else if (char === '^' && isExpression) {
      // Only matches the start of a path.
      at += 1
      if (fixed.length === 0) gaps[0] = GAP.none
      else take(NEVER)
    } else {
      at += char.length
      take({ char })
    }
  }
  return { fixed, gaps }
}

function charactersOf(meaning: RegExp): Fixed {
  return { text: meaning.source, accepts: (codePoint) => meaning.test(String.fromCodePoint(codePoint)) }
}

/**
 * Docker's matcher also replaces wildcards in brackets: `[?]` becomes `[[^/]]`, one of `[`, `^` and `/`, and then `]`.
 * The same goes for `*`, which may stand for any number of them: here, for none.
 */
function brokenClass(
  pattern: string,
  start: number,
  whole: Class & { end: number },
): [one: Class | null, end: number] {
  const found = /^\[\^?(?:\\.|[^\\*?])*[*?]/su.exec(pattern.slice(start, whole.end))?.[0]
  if (found === undefined) return [whole, whole.end]
  if (found.endsWith('*')) return [null, start + found.length]
  const before = classAt(`${found.slice(0, -1)}\\[\\^/]`, 0)
  return before ? [before, start + found.length] : [whole, whole.end]
}

/** Combines two wildcards in a row: `**` twice is `**`; `**` and `*`, always in this order, match anything. */
function joined(before: number, gap: number): number {
  return before === GAP.none || before === gap ? gap : GAP.any
}

function characterAt(text: string, at: number): string {
  return String.fromCodePoint(text.codePointAt(at) ?? 0)
}

/**
 * A class of Go's filepath.Match: at least one character or range, `-` and `]` only after a backslash. Null if it is
 * malformed, for example a range that runs backwards.
 */
function classAt(pattern: string, start: number): (Class & { end: number }) | null {
  let at = start + 1
  const negated = pattern[at] === '^'
  if (negated) at += 1
  const next = (): number | null => {
    const bare = pattern[at]
    if (bare === undefined || bare === ']' || bare === '-') return null
    if (bare === '\\') at += 1
    const codePoint = pattern.codePointAt(at)
    if (codePoint === undefined) return null
    at += codePoint > 0xffff ? 2 : 1
    return codePoint
  }
  const ranges: [from: number, to: number][] = []
  do {
    const from = next()
    if (from === null) return null
    let to: number | null = from
    if (pattern[at] === '-') {
      at += 1
      to = next()
    }
    if (to === null || to < from) return null
    ranges.push([from, to])
  } while (at < pattern.length && pattern[at] !== ']')
  if (at >= pattern.length) return null
  const holds = inRanges(ranges)
  const end = at + 1
  return { end, text: pattern.slice(start, end), accepts: (codePoint) => holds(codePoint) !== negated }
}

/** A binary search, as there may be many. */
function inRanges(ranges: [from: number, to: number][]): (codePoint: number) => boolean {
  const merged: [from: number, to: number][] = []
  for (const [from, to] of ranges.sort(([a], [b]) => a - b)) {
    const last = merged.at(-1)
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to)
    else merged.push([from, to])
  }
  return (codePoint) => {
    let low = 0
    let high = merged.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((merged[middle]?.[0] ?? 0) <= codePoint) low = middle + 1
      else high = middle
    }
    return codePoint <= (merged[low - 1]?.[1] ?? -1)
  }
}
