import { type Fixed, GAP } from './steps.ts'

const SLASH = 47
/** How many code points have cached masks: paths may contain ever new ones. */
const MASKS_KEPT = 128

/**
 * Follows all paths through a pattern at once, one bit each: always takes time linear in the path, times a 32nd of the
 * pattern. Bit i means that i of the characters have matched.
 *
 * @returns whether `path` from `start` to `end` matches these characters, with these gaps around them
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
    /** Where a `**` has consumed something: it must end at a slash. */
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

/** How many 32-bit words the characters take. */
export function wordsOf(fixed: readonly Fixed[]): number {
  return (fixed.length + 32) >>> 5
}

/** The characters that a code point matches. */
function masksOf(
  fixed: readonly Fixed[],
  bits: (holds: (index: number) => boolean) => Int32Array,
): (codePoint: number) => Int32Array {
  const kept = new Map<number, Int32Array>()
  return (codePoint) => {
    const known = kept.get(codePoint)
    if (known) return known
    const char = String.fromCodePoint(codePoint)
    /** Each class is evaluated once, however often it occurs in the pattern. */
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
