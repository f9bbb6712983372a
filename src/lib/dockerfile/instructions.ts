import { trimLeft, trimRight, trimTabs } from '../util/go-text.ts'
import { InvalidDockerfile, UnpredictableDockerfile } from './errors.ts'
import { wordsOf } from './shell-word.ts'
import { jsonStrings, type Split, splitLine } from './words.ts'

/** One instruction, with its continuation lines joined. */
export interface Instruction {
  /** In lower case: `from`. */
  keyword: string
  /** `--name=value`, without quotes. */
  flags: string[]
  /** Everything after the flags, with quotes and variables. */
  args: string
  /** The arguments, if they are a JSON list. */
  json: string[] | null
  /** The contents of its heredocs; absent if there are none. */
  heredocs?: string
}

/** The lines of an instruction, from 1. */
export interface LineRange {
  first: number
  last: number
}

export interface Parsed {
  /** Backslash or backtick. */
  escape: string
  instructions: Instruction[]
}

/**
 * The frontend's support for heredocs. Before Dockerfile 1.4 (Docker 20.10), there is none, and their lines are parsed as
 * instructions; newer versions allow a space, `<< EOF`.
 */
export type Heredocs = 'none' | 'tight' | 'spaced'

const KEYWORDS = new Set(
  'add arg cmd copy entrypoint env expose from healthcheck label maintainer onbuild run shell stopsignal user volume workdir'.split(
    ' ',
  ),
)
const WITH_HEREDOCS = ['add', 'copy', 'run']
/** A list of strings at the beginning. */
const LIST = /^\[\s*(?:"(?:[^"\\]|\\.)*"\s*(?:,\s*"(?:[^"\\]|\\.)*"\s*)*)?\]/
const WITH_JSON = ['add', 'cmd', 'copy', 'entrypoint', 'run', 'shell', 'volume']

/** Longer than any real Dockerfile, and parsed in some tens of milliseconds. */
const MAX_LENGTH = 1 << 17

/**
 * The instructions of a Dockerfile, as BuildKit's parser reads them.
 * (https://github.com/moby/buildkit/blob/master/frontend/dockerfile/parser/parser.go, Parse)
 * @param places is given the lines of each instruction, also of an invalid one
 * @throws InvalidDockerfile if BuildKit rejects it too; UnpredictableDockerfile if versions differ, or over 128 KiB
 */
export function parse(dockerfile: string, heredocs: Heredocs, places: LineRange[] = []): Parsed {
  if (dockerfile.length > MAX_LENGTH) throw new UnpredictableDockerfile('it is too long')
  const directives = new Directives()
  const lines = new Lines(dockerfile)
  const instructions: Instruction[] = []
  for (let raw = lines.next(); raw !== null; raw = lines.next()) {
    const text = trimLeft(trimRight(raw, '\r\n'))
    directives.see(text)
    if (text === '' || text.startsWith('#')) continue
    const place = { first: lines.read, last: 0 }
    const line = continued(text, lines, directives.escape)
    place.last = lines.read
    places.push(place)
    const split = splitLine(line, directives.escape)
    const one = instructionOf(split)
    instructions.push(one)
    const inner = one.keyword === 'onbuild' ? instructionOf(splitLine(one.args, directives.escape)) : one
    if (heredocs === 'none' || !line.includes('<<') || !WITH_HEREDOCS.includes(inner.keyword)) continue
    if (inner.json) continue
    // Older versions parse `["a"] <<EOF` as a list and ignore the rest.
    if (LIST.test(inner.args)) throw new UnpredictableDockerfile('what may be a list, and a heredoc')
    const found = heredocsOf(line, heredocs === 'spaced').map((heredoc) => bodyOf(heredoc, lines))
    place.last = lines.read
    if (found.length > 0) one.heredocs = found.join('\0')
  }
  return { escape: directives.escape, instructions }
}

/** @throws InvalidDockerfile for an unknown instruction */
export function instructionOf({ keyword, flags, args }: Split): Instruction {
  const name = keyword.toLowerCase()
  if (!KEYWORDS.has(name)) throw new InvalidDockerfile('an unknown instruction')
  return { keyword: name, flags, args, json: WITH_JSON.includes(name) ? jsonStrings(args) : null }
}

class Lines {
  readonly #text: string
  #at: number
  /** How many have been read: the number of the last one. */
  read = 0

  constructor(text: string) {
    this.#text = text
    this.#at = text.startsWith('\ufeff') ? 1 : 0
  }

  /** The next line without its line feed; null at the end. */
  next(): string | null {
    if (this.#at >= this.#text.length) return null
    const end = this.#text.indexOf('\n', this.#at)
    const line = this.#text.slice(this.#at, end < 0 ? this.#text.length : end)
    this.#at = end < 0 ? this.#text.length : end + 1
    this.read += 1
    return line
  }
}

/** A line joined with its continuation lines. Comments and empty lines in between are skipped. */
function continued(first: string, lines: Lines, escapeChar: string): string {
  const pieces: string[] = []
  for (let text = first; ; ) {
    const piece = withoutContinuation(text, escapeChar)
    pieces.push(piece ?? text)
    if (piece === null) return pieces.join('')
    for (;;) {
      const raw = lines.next()
      if (raw === null) return pieces.join('')
      text = trimRight(raw, '\r\n')
      const start = trimLeft(text)
      if (start !== '' && !start.startsWith('#')) break
    }
  }
}

/** The line without its continuation character; null if it has none. (lineContinuationRegex) */
function withoutContinuation(text: string, escapeChar: string): string | null {
  const line = trimRight(text, ' \t')
  if (!line.endsWith(escapeChar) || line.at(-2) === escapeChar) return null
  return line.slice(0, -1)
}

/**
 * Parser directives such as `# escape=...`, which come before anything else.
 * (https://github.com/moby/buildkit/blob/master/frontend/dockerfile/parser/directives.go)
 */
class Directives {
  escape = '\\'
  #ended = false
  readonly #seen = new Set<string>()

  see(text: string): void {
    if (this.#ended) return
    const { name = '', value = '', indent = '' } = directiveOf(text, ['#']) ?? {}
    if (!['syntax', 'escape', 'check'].includes(name)) {
      this.#ended = true
      return
    }
    // In older versions, this is a comment, which ends the directives.
    if (trimRight(indent, BLANKS) !== '') throw new UnpredictableDockerfile('a directive behind a rare space')
    if (this.#seen.has(name)) throw new InvalidDockerfile(`two directives ${name}`)
    // In older versions, the unknown directive `check` ends the directives.
    if (this.#seen.has('check') && name === 'escape')
      throw new UnpredictableDockerfile('a directive behind # check')
    this.#seen.add(name)
    if (name !== 'escape') return
    if (value !== '\\' && value !== '`') throw new InvalidDockerfile('an invalid escape character')
    this.escape = value
  }
}

/** What `\s` stands for in Go's regular expressions. */
const BLANKS = '\t\n\f\r '

interface Directive {
  /** In lower case. */
  name: string
  value: string
  /** The spaces before its name, also those outside ASCII, which newer versions skip. */
  indent: string
}

function directiveOf(text: string, markers: readonly string[]): Directive | null {
  const marker = markers.find((one) => text.startsWith(one))
  if (marker === undefined) return null
  const behind = text.slice(marker.length)
  const rest = trimLeft(behind)
  const match = /^([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+)$/s.exec(rest)
  if (!match) return null
  const [, name = '', value = ''] = match
  const indent = behind.slice(0, behind.length - rest.length)
  return { name: name.toLowerCase(), value: trimRight(value, BLANKS), indent }
}

/** No Dockerfile, but a document for another frontend: `{"syntax": "IMAGE"}`. */
const JSON_DOCUMENT = /^\ufeff?(?:#![^\n]*\n)?\s*\{/

/**
 * The frontends that a Dockerfile may select: with `# syntax=IMAGE` or, since BuildKit 0.11, with `// syntax=IMAGE` or
 * as JSON. Several if versions of BuildKit differ in which one counts; the empty string for that of a JSON document, as
 * they also differ in how they read one with several.
 * (https://github.com/moby/buildkit/blob/master/frontend/dockerfile/parser/directives.go, DetectSyntax)
 */
export function frontendsOf(dockerfile: string): string[] {
  if (JSON_DOCUMENT.test(dockerfile)) return ['']
  const lines = new Lines(dockerfile)
  const frontends = new Set<string>()
  for (let line = lines.next(), first = true; line !== null; line = lines.next(), first = false) {
    if (first && line.startsWith('#!')) continue
    const directive = directiveOf(trimLeft(trimRight(line, '\r\n')), ['#', '//'])
    if (!directive) break
    if (directive.name === 'syntax') frontends.add(directive.value.split(' ')[0] ?? '')
  }
  return [...frontends]
}

interface Heredoc {
  /** The terminating line. */
  end: string
  /** Whether that line may begin with tabs (`<<-`). */
  tabs: boolean
}

/** The heredocs that start in a line. (heredocsFromLine) */
function heredocsOf(line: string, spaced: boolean): Heredoc[] {
  let words: string[]
  try {
    words = wordsOf(line, { quotes: true, escapes: true, spaced })
  } catch (error) {
    if (error instanceof InvalidDockerfile) return []
    throw error
  }
  return words.flatMap((word) => {
    const match = /^\d*<<(-?)([^<]*)$/.exec(word)
    const name = spaced ? match?.[2]?.replace(/^[\t\n\f\r ]+/, '') : match?.[2]
    if (!name) return []
    const [end, ...more] = wordsOf(name, { quotes: false, escapes: false, spaced })
    return end === undefined || more.length > 0 ? [] : [{ end, tabs: match?.[1] === '-' }]
  })
}

/** Its contents. @throws InvalidDockerfile if it is not terminated */
function bodyOf({ end, tabs }: Heredoc, lines: Lines): string {
  const body: string[] = []
  for (let raw = lines.next(); raw !== null; raw = lines.next()) {
    const line = trimRight(raw, '\r\n')
    if ((tabs ? trimTabs(line) : line) === end) return body.join('\n')
    body.push(line)
  }
  throw new InvalidDockerfile('an unterminated heredoc')
}
