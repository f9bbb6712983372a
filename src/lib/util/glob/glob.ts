import { nfaOf, wordsOf } from './nfa.ts'
import { type Fixed, GAP, type GlobSteps, stepsOf } from './steps.ts'

/** A pattern of Docker's matcher. */
export interface Glob {
  /** The start and end of every matching path; for a literal, `head` is the whole path. */
  head: string
  tail: string
  literal: boolean
  /** How many steps each character of a path may take; 0 if few characters are read. */
  work: number
  /** Takes time linear in the path, whatever the pattern and the path. */
  matches(path: string): boolean
}

/** Paths have at most 4095 bytes, so no pattern with more characters matches any. */
const MAX_CHARACTERS = 4096

/**
 * A pattern of Docker's matcher (Go's filepath.Match and `**`) as a function of a path.
 * Null if the pattern is malformed.
 *
 * Where Docker's documentation and code differ, this follows the code (`**x`, `[^a]` matching a slash, `^`, `[?]`,
 * `\d`), except for rare escapes of Go's regular expressions (`\b`, `\p`, `\Q`), which stand for their letter.
 * @param isExpression whether wildcards follow Docker's matcher (https://github.com/moby/patternmatcher), and not
 * filepath.Match alone
 */
export function compileGlob(pattern: string, isExpression = true): Glob | null {
  const steps = stepsOf(pattern, isExpression && becomesExpression(pattern))
  if (!steps) return null
  const { fixed } = steps
  if (fixed.length > MAX_CHARACTERS) return { ...NOTHING }
  const { from, to, gaps } = split(pattern, steps)
  const head = textOf(fixed, 0, from)
  const tail = textOf(fixed, to, fixed.length)
  if (from === fixed.length && gaps[from] === GAP.none) {
    return { head, tail: '', literal: true, work: 0, matches: (path) => path === head }
  }
  const { between, work } = betweenOf(fixed.slice(from, to), gaps.slice(from, to + 1))
  const least = head.length + tail.length
  const matches = (path: string) =>
    path.length >= least &&
    path.startsWith(head) &&
    path.endsWith(tail) &&
    between(path, head.length, path.length - tail.length)
  return { head, tail, literal: false, work, matches }
}

const NOTHING: Glob = { head: '', tail: '', literal: false, work: 0, matches: () => false }

/** Whether Docker's matcher converts a pattern to a regular expression; it compares others by prefix or suffix. */
function becomesExpression(pattern: string): boolean {
  if (/[?[\]\\]/.test(pattern)) return true
  let kind: 'exact' | 'suffix' = 'exact'
  for (let at = pattern.indexOf('*'); at >= 0; at = pattern.indexOf('*', at)) {
    if (pattern[at + 1] !== '*') return true
    const isFirst = at === 0
    at += pattern[at + 2] === '/' ? 3 : 2
    if (isFirst) kind = 'suffix'
    else if (at < pattern.length || kind !== 'exact') return true
  }
  return false
}

/** `from` is the end of the characters before the first wildcard, `to` the start of those after the last one. */
function split(
  pattern: string,
  { fixed, gaps }: GlobSteps,
): { from: number; to: number; gaps: readonly number[] } {
  const isPlain = (index: number) => fixed[index]?.char !== undefined
  let from = 0
  while (from < fixed.length && gaps[from] === GAP.none && isPlain(from)) from++
  let to = fixed.length
  while (to > from && gaps[to] === GAP.none && isPlain(to - 1)) to--
  // A special case of Docker's matcher: `**x` matches every path that ends in x.
  const isTail = from === 0 && to === 0 && gaps[0] === GAP.dirs && !/^\*\*[*/]|\\/.test(pattern)
  return { from, to, gaps: isTail ? gaps.with(0, GAP.any) : gaps }
}

/** Whether what is between head and tail, `path` from `start` to `end`, is what a pattern has there. */
type Between = (path: string, start: number, end: number) => boolean

function betweenOf(fixed: Fixed[], gaps: readonly number[]): { between: Between; work: number } {
  if (fixed.length === 0) return { between: gapOf(gaps[0]), work: 0 }
  const isOne = ![GAP.star, GAP.dirs, GAP.any].some((gap) => gaps.includes(gap, 1))
  if (isOne) return { between: endsIn(fixed, gapOf(gaps[0])), work: 0 }
  return { between: nfaOf(fixed, gaps), work: wordsOf(fixed) }
}

function gapOf(gap: number | undefined): Between {
  switch (gap) {
    case GAP.any:
      return () => true
    case GAP.star:
      return (path, start, end) => {
        const slash = path.indexOf('/', start)
        return slash < 0 || slash >= end
      }
    case GAP.none:
      return (_, start, end) => start === end
    default:
      return (path, start, end) => start === end || path[end - 1] === '/'
  }
}

/** One gap, and characters after it: read from the end. */
function endsIn(fixed: Fixed[], gap: Between): Between {
  return (path, start, end) => {
    let at = end
    for (let i = fixed.length - 1; i >= 0; i--) {
      const isLow = at - 2 >= start && (path.charCodeAt(at - 1) & 0xfc00) === 0xdc00
      at -= isLow ? 2 : 1
      const one = fixed[i]
      if (at < start || !one) return false
      const codePoint = path.codePointAt(at) ?? 0
      if (one.char === undefined ? !one.accepts(codePoint) : one.char.codePointAt(0) !== codePoint)
        return false
    }
    return gap(path, start, at)
  }
}

function textOf(fixed: Fixed[], from: number, to: number): string {
  return fixed
    .slice(from, to)
    .map(({ char }) => char)
    .join('')
}
