import { type Fixed, GAP } from './steps.ts'

const SLASH = 47
/** Code points whose masks are kept: a path may have other ones every time. */
const MASKS_KEPT = 128

/**
 * Follows all ways through a pattern at once, one bit each: time in proportion to the path, and to a 32nd of the
 * pattern, always. Bit i stands for having met i of the characters.
 *
 * @returns whether `path` from `start` to `end` is such characters, with such gaps before, between and after them
 */
export function nfaOf(
  fixed: readonly Fixed[],
  gaps: readonly number[],
): (path: string, start: number, end: number) => boolean {
  const words = wordsOf(fixed)
  const bits = (holds: (index: number) => boolean) => {
    const set = new Int32Array(words)
    for (let i = 0; i < gaps.length; i++) if (holds(i)) set[i >>> 5] = (set[i >>> 5] ?? 0) | (1 << (i & 31))
    return set
  }
  const star = bits((i) => gaps[i] === GAP.star)
  const any = bits((i) => gaps[i] === GAP.any)
  const dirs = bits((i) => gaps[i] === GAP.dirs)
  const masks = masksOf(fixed, bits)
  const [last, lastBit] = [fixed.length >>> 5, 1 << (fixed.length & 31)]

  return (path, start, end) => {
    const at = new Int32Array(words)
    /** Where a `**` has begun to eat: it must end on a slash. */
    const eating = new Int32Array(words)
    at[0] = 1
    for (let i = start; i < end; i++) {
      const codePoint = path.codePointAt(i) ?? 0
      if (codePoint > 0xffff) i++
      const accepted = masks(codePoint)
      let carry = 0
      let alive = 0
      for (let word = 0; word < words; word++) {
        const here = at[word] ?? 0
        const moved = here & (accepted[word] ?? 0)
        const eats = (eating[word] ?? 0) | (here & (dirs[word] ?? 0))
        const stays = here & ((any[word] ?? 0) | (codePoint === SLASH ? 0 : (star[word] ?? 0)))
        const now = (moved << 1) | carry | stays | (codePoint === SLASH ? eats : 0)
        carry = moved >>> 31
        at[word] = now
        eating[word] = eats
        alive |= now | eats
      }
      if (alive === 0) return false
    }
    return ((at[last] ?? 0) & lastBit) !== 0
  }
}

/** How many words of 32 bits the characters take. */
export function wordsOf(fixed: readonly Fixed[]): number {
  return (fixed.length + 32) >>> 5
}

/** Which of the characters a code point is. */
function masksOf(
  fixed: readonly Fixed[],
  bits: (holds: (index: number) => boolean) => Int32Array,
): (codePoint: number) => Int32Array {
  const kept = new Map<number, Int32Array>()
  return (codePoint) => {
    const known = kept.get(codePoint)
    if (known) return known
    const char = String.fromCodePoint(codePoint)
    /** Each class is asked once, however often the pattern has it. */
    const verdicts = new Map<string, boolean>()
    const mask = bits((index) => {
      const one = fixed[index]
      if (one === undefined) return false
      if (one.char !== undefined) return one.char === char
      const verdict = verdicts.get(one.text) ?? one.accepts(codePoint)
      verdicts.set(one.text, verdict)
      return verdict
    })
    if (kept.size >= MASKS_KEPT) kept.clear()
    kept.set(codePoint, mask)
    return mask
  }
}
