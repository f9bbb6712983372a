import { InvalidDockerfile, UnpredictableDockerfile } from './errors.ts'

/** One character, any one, or any number of any. */
type Token = { char: string } | 'one' | 'many'

/** Names of images are shorter; more would only cost time. */
const LONGEST_VALUE = 512
const LONGEST_PATTERN = 64

/**
 * The patterns of `${NAME#PATTERN}` and `${NAME/PATTERN/TEXT}`: `*`, `?`, and a backslash before either. BuildKit makes
 * regular expressions of them, which in Go take linear time; here the matching is done by hand.
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
    // What ends a pattern is escaped in it, and the backslash is no part of it.
    else if (next === '}' || next === '/') continue
    else if (next === '*' || next === '?' || next === '\\') {
      tokens.push({ char: next })
      at += 1
    } else throw new InvalidDockerfile('invalid escape in a pattern')
  }
  return tokens
}

/** How long the shortest or longest match is that begins at `from`; -1 for none. */
function matchLength(tokens: Token[], value: string, from: number, longest: boolean): number {
  // States that can be reached after each character; a `many` may be passed over at once.
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
  // A Set that grows while it is walked is walked to its end.
  for (const state of states) if (tokens[state] === 'many') states.add(state + 1)
  return states
}

/** Each match costs work in proportion to both lengths; a Dockerfile has room for very many. */
export class Globs {
  #left = 1000

  /** `${NAME#PATTERN}`, `##` if it is greedy. */
  withoutPrefix(value: string, pattern: string, greedy: boolean): string {
    this.#check(value, pattern)
    const length = matchLength(tokensOf(pattern), value, 0, greedy)
    return length < 0 ? value : value.slice(length)
  }

  /** `${NAME%PATTERN}`, `%%` if it is greedy. */
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
    if (pattern === '' || text.includes('$')) throw new UnpredictableDockerfile('an odd substitution')
    const tokens = tokensOf(pattern)
    let result = ''
    for (let at = 0; at <= value.length; ) {
      const length = matchLength(tokens, value, at, true)
      // Where empty matches are in between is a matter of the regular expression engine.
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
