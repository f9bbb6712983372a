import { InvalidDockerfile, UnpredictableDockerfile } from './errors.ts'

/** One character, any character, or any number of characters. */
type Token = { char: string } | 'one' | 'many'

/** Image names are shorter. */
const LONGEST_VALUE = 512
const LONGEST_PATTERN = 64

/**
 * The patterns of `${NAME#PATTERN}` and `${NAME/PATTERN/TEXT}`: `*`, `?`, and a backslash before either. BuildKit converts
 * them to regular expressions, which are linear in Go but not here, so the matching is done by hand.
 * (https://github.com/moby/buildkit/blob/master/frontend/dockerfile/shell/lex.go, convertShellPatternToRegex)
 */
function tokensOf(pattern: string): Token[] {
  const tokens: Token[] = []
  for (let at = 0; at < pattern.length; at += 1) {
    const char = pattern.charAt(at)
    const next = pattern.charAt(at + 1)
    if (char === '*') tokens.push('many')
    else if (char === '?') tokens.push('one')
    else if (char !== '\\') tokens.push({ char })
    // The backslash before a terminator is not part of the pattern.
    else if (next === '}' || next === '/') continue
    else if (next === '*' || next === '?' || next === '\\') {
      tokens.push({ char: next })
      at += 1
    } else throw new InvalidDockerfile('invalid escape in a pattern')
  }
  return tokens
}

/** Length of the shortest or longest match at `from`; -1 for none. */
function matchLength(tokens: Token[], value: string, from: number, longest: boolean): number {
  // The states that are reachable after each character; a `many` may match nothing.
  let states = closed(new Set([0]), tokens)
  let found = -1
  for (let at = from; ; at += 1) {
    if (states.has(tokens.length)) {
      found = at - from
      if (!longest) return found
    }
    if (at >= value.length || states.size === 0) return found
    const next = new Set<number>()
    for (const state of states) {
      const token = tokens[state]
      if (token === undefined) continue
      if (token === 'many') next.add(state)
      else if (token === 'one' || token.char === value.charAt(at)) next.add(state + 1)
    }
    states = closed(next, tokens)
  }
}

function closed(states: Set<number>, tokens: Token[]): Set<number> {
  // Iterating a Set includes members added meanwhile.
  for (const state of states) if (tokens[state] === 'many') states.add(state + 1)
  return states
}

/** Limits the number of matches: each takes time proportional to both lengths, and a Dockerfile may have very many. */
export class Globs {
  #left = 1000

  /** `${NAME#PATTERN}`, `##` if greedy. */
  withoutPrefix(value: string, pattern: string, greedy: boolean): string {
    this.#check(value, pattern)
    const length = matchLength(tokensOf(pattern), value, 0, greedy)
    return length < 0 ? value : value.slice(length)
  }

  /** `${NAME%PATTERN}`, `%%` if greedy. */
  withoutSuffix(value: string, pattern: string, greedy: boolean): string {
    this.#check(value, pattern)
    const backwards = [...value].reverse().join('')
    const length = matchLength(tokensOf(pattern).reverse(), backwards, 0, greedy)
    return length < 0 ? value : value.slice(0, value.length - length)
  }

  /** `${NAME/PATTERN/TEXT}`, `//` for all. */
  replaced(value: string, pattern: string, text: string, all: boolean): string {
    this.#check(value, pattern)
    // Go expands `$1` in the text, but only with `//`.
    if (pattern === '' || text.includes('$')) throw new UnpredictableDockerfile('an unusual substitution')
    const tokens = tokensOf(pattern)
    let result = ''
    for (let at = 0; at <= value.length; ) {
      const length = matchLength(tokens, value, at, true)
      // Where empty matches occur depends on the regular expression engine.
      if (length === 0) throw new UnpredictableDockerfile('a pattern that matches nothing')
      if (length > 0) {
        result += text
        at += length
        if (!all) return result + value.slice(at)
      } else {
        result += value.charAt(at)
        at += 1
      }
    }
    return result
  }

  #check(value: string, pattern: string): void {
    this.#left -= 1
    if (this.#left < 0 || value.length > LONGEST_VALUE || pattern.length > LONGEST_PATTERN) {
      throw new UnpredictableDockerfile('too much to match')
    }
  }
}
