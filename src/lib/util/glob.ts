/** One step of a pattern. */
type Token =
  | { kind: 'char'; char: string }
  /** `?`, or `[...]`: one character that the expression accepts. */
  | { kind: 'one'; accepts: RegExp }
  /** `*`: any number of characters of one path part. */
  | { kind: 'star' }
  /** `**` before more: nothing, or anything that ends in a slash. */
  | { kind: 'dirs' }
  /** `**` at the end: everything. */
  | { kind: 'rest' }

/** A class of Go's filepath.Match: at least one character or range, `-` and `]` only after a backslash. */
const CLASS = /\[(?:\^|(?!\^))(?:(?:\\.|[^\\\]-])(?:-(?:\\.|[^\\\]-]))?)+\]/suy

/** Above this many wildcards a regular expression could take exponential time on a hostile pattern. */
const MAX_REGEXP_WILDCARDS = 2

/**
 * A pattern of Docker's matcher (Go's filepath.Match and `**`) as a function of a path.
 * Null when the pattern is malformed.
 *
 * Where Docker's documentation and its code differ this follows the code (`**x`, `[^a]` matching a slash),
 * but for characters that only mean something to Go's regular expressions: `^`, and letters after a
 * backslash, stand for themselves here.
 */
export function compileGlob(pattern: string): ((path: string) => boolean) | null {
  const tokens = tokenize(pattern)
  if (!tokens) return null
  // Docker compares these three literally, without going through an expression; it shows in `**x`,
  // which matches every path that ends in x, and in `a/**`, which does not match `a`.
  const literal = literalOf(tokens)
  if (literal !== null) return (path) => path === literal
  const head = tokens.at(-1)?.kind === 'rest' ? literalOf(tokens.slice(0, -1)) : null
  if (head !== null) return (path) => path.startsWith(head)
  const tail = pattern.startsWith('**') && !pattern.includes('\\') ? literalOf(tokens.slice(1)) : null
  if (tail !== null) {
    if (!pattern.startsWith('**/')) return (path) => path.endsWith(tail)
    return (path) => path === tail || path.endsWith(`/${tail}`)
  }
  const wildcards = tokens.filter(({ kind }) => kind === 'star' || kind === 'dirs' || kind === 'rest')
  if (wildcards.length > MAX_REGEXP_WILDCARDS) return (path) => simulate(tokens, path)
  const expression = new RegExp(`^${tokens.map(expressionOf).join('')}$`, 'su')
  return (path) => expression.test(path)
}

function tokenize(pattern: string): Token[] | null {
  const tokens: Token[] = []
  for (let at = 0; at < pattern.length; ) {
    const char = String.fromCodePoint(pattern.codePointAt(at) ?? 0)
    if (char === '*' && pattern[at + 1] === '*') {
      at += pattern[at + 2] === '/' ? 3 : 2
      tokens.push({ kind: at < pattern.length ? 'dirs' : 'rest' })
    } else if (char === '*') {
      at += 1
      tokens.push({ kind: 'star' })
    } else if (char === '?') {
      at += 1
      tokens.push({ kind: 'one', accepts: /[^/]/su })
    } else if (char === '[') {
      CLASS.lastIndex = at
      const accepts = classExpression(CLASS.exec(pattern)?.[0])
      if (!accepts) return null
      at = CLASS.lastIndex
      tokens.push({ kind: 'one', accepts })
    } else if (char === '\\') {
      if (at + 1 === pattern.length) return null
      const escaped = String.fromCodePoint(pattern.codePointAt(at + 1) ?? 0)
      at += 1 + escaped.length
      tokens.push({ kind: 'char', char: escaped })
    } else {
      at += char.length
      tokens.push({ kind: 'char', char })
    }
  }
  return tokens
}

/** `[^a-z\]]` as an expression; null when it is malformed, as with a range that runs backwards. */
function classExpression(source: string | undefined): RegExp | null {
  if (source === undefined) return null
  const negated = source.startsWith('[^')
  const body = source
    .slice(negated ? 2 : 1, -1)
    .replace(/\\?(.)/gsu, (text, char: string) => (text === '-' ? '-' : `\\u{${codePoint(char)}}`))
  try {
    return new RegExp(`[${negated ? '^' : ''}${body}]`, 'su')
  } catch {
    return null // The one thing that CLASS can not see: z-a.
  }
}

const codePoint = (char: string) => (char.codePointAt(0) ?? 0).toString(16)

/** The text of tokens that are all plain characters, else null. */
function literalOf(tokens: readonly Token[]): string | null {
  let text = ''
  for (const token of tokens) {
    if (token.kind !== 'char') return null
    text += token.char
  }
  return text
}

function expressionOf(token: Token): string {
  switch (token.kind) {
    case 'char':
      return `\\u{${codePoint(token.char)}}`
    case 'one':
      return token.accepts.source
    case 'star':
      return '[^/]*'
    case 'dirs':
      return '(?:.*/)?'
    case 'rest':
      return '.*'
  }
}

/** Follows all ways through the pattern at once: time in proportion to pattern times path, always. */
function simulate(tokens: readonly Token[], path: string): boolean {
  let current = new Set<number>()
  enter(tokens, current, 0)
  for (const char of path) {
    const next = new Set<number>()
    for (const state of current) step(tokens, next, state, char)
    if (next.size === 0) return false
    current = next
  }
  return current.has(tokens.length)
}

/** Adds a state, and those that are reached from it without a character. */
function enter(tokens: readonly Token[], states: Set<number>, state: number): void {
  states.add(state)
  const kind = tokens[state]?.kind
  if (kind === 'star' || kind === 'dirs' || kind === 'rest') enter(tokens, states, state + 1)
}

/**
 * States are token indexes. A `dirs` that has begun to eat must end on a slash, so it waits under a
 * negative number (-1 - index) from which only a slash leads on.
 */
function step(tokens: readonly Token[], next: Set<number>, state: number, char: string): void {
  const index = state < 0 ? -1 - state : state
  const token = tokens[index]
  if (!token) return
  if (token.kind === 'char' && token.char === char) enter(tokens, next, index + 1)
  if (token.kind === 'one' && token.accepts.test(char)) enter(tokens, next, index + 1)
  if (token.kind === 'star' && char !== '/') enter(tokens, next, index)
  if (token.kind === 'rest') enter(tokens, next, index)
  if (token.kind === 'dirs') {
    next.add(-1 - index)
    if (char === '/') enter(tokens, next, index + 1)
  }
}
