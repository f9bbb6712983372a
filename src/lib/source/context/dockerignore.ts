import { ConveyorError } from '../../core/errors.ts'
import { belowTest } from '../../util/glob/below.ts'
import { compileGlob, type Glob } from '../../util/glob/glob.ts'
import { type GroupedGlob, MAX_WORK, PatternSet } from '../../util/glob/pattern-set.ts'
import { trimSpace } from '../../util/go-text.ts'
import { Pace } from '../../util/pace.ts'

/**
 * Matches paths by the rules of .dockerignore, as BuildKit applies them to a build context. They differ from
 * .gitignore: patterns are anchored at the root, and `!` can re-include a file in an excluded directory.
 * https://docs.docker.com/build/concepts/context/#dockerignore-files
 */
export interface Dockerignore {
  /** Its lines as BuildKit's frontend reads them, and passes them on to its client. */
  lines: readonly string[]
  /** Whether a path (`a/b`) is excluded from the context, by itself or with a parent. */
  excludes(path: string): boolean
  /** Whether a directory and everything below it is excluded. */
  excludesAll(path: string): boolean
  /**
   * As `excludes` for a walk from the root, given the parent's verdict: much cheaper.
   * @param parent verdict of the parent directory; absent in the root
   */
  judge(path: string, parent?: IgnoreVerdict): IgnoreVerdict
}

export interface IgnoreVerdict {
  excluded: boolean
  /** Nothing below this directory is re-included: it is not walked. */
  final: boolean
  /** Bit set of the runs of patterns that matched, for verdicts below this directory. */
  matched: Uint32Array
}

interface Pattern {
  /** Cleaned, without the `!`. */
  text: string
  /** `!`: re-includes what an earlier pattern excluded. */
  exception: boolean
  glob: Glob
}

/**
 * Parses an ignore file.
 * @param name of the file in errors
 * @throws ConveyorError `build_failed` naming file, line and pattern if a pattern is malformed; `excludes` and `judge`
 * throw it if matching a path would take too long
 */
export function parseDockerignore(
  text: string,
  name = '.dockerignore',
  pace: Pace = new Pace(),
): Promise<Dockerignore> {
  return parseLines(linesOf(text.replace(/^\uFEFF/, '')), readLine, name, pace)
}

/** The same of lines that BuildKit's frontend has read, or patterns that it has chosen itself. */
export function dockerignoreOf(lines: readonly string[], name: string, pace: Pace): Promise<Dockerignore> {
  return parseLines(lines, (line) => line, name, pace)
}

async function parseLines(
  whole: Iterable<string>,
  read: (line: string) => string,
  name: string,
  pace: Pace,
): Promise<Dockerignore> {
  const lines: string[] = []
  const patterns: Pattern[] = []
  /** Repeated lines have no effect. */
  let last: string | undefined
  let [number, work, switches] = [0, 0, 0]
  for (const line of whole) {
    if (pace.isDue) await pace.rest()
    number += 1
    if (line.length > MAX_LINE || Buffer.byteLength(line) > MAX_LINE) throw tooLong(name, number)
    const text = read(line)
    if (text === '') continue
    lines.push(text)
    if (text === last) continue
    last = text
    const cleaned = cleanPattern(text)
    if (cleaned === '') continue
    const pattern = parsePattern(cleaned)
    if (!pattern) throw malformed(name, number, trimSpace(line))
    work += pattern.glob.work
    if (work > MAX_WORK) throw tooMuch(name)
    if (pattern.exception !== patterns.at(-1)?.exception) switches += 1
    if (switches > MAX_SWITCHES) throw tooMixed(name)
    patterns.push(pattern)
  }
  return { ...(await dockerignore(patterns, name, pace)), lines }
}

/** In bytes: Docker refuses longer lines, too (bufio.MaxScanTokenSize, with the newline). */
const MAX_LINE = 65_535

function tooLong(name: string, number: number): ConveyorError {
  return new ConveyorError('build_failed', `${name}, line ${number} is longer than 64 KiB`)
}

function tooMuch(name: string): ConveyorError {
  return new ConveyorError('build_failed', `${name} has too many patterns with several wildcards`, {
    hint: 'Use names of folders, prefixes or suffixes instead',
  })
}

/** Limit of switches between patterns and exceptions: each can change the verdict on every path. */
const MAX_SWITCHES = 20_000

function tooMixed(name: string): ConveyorError {
  return new ConveyorError(
    'build_failed',
    `${name} switches between patterns and exceptions (!) more than ${MAX_SWITCHES} times`,
    { hint: 'Group exceptions after the patterns that they apply to' },
  )
}

function* linesOf(text: string): Generator<string> {
  let start = 0
  for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
    yield text.slice(start, end)
    start = end + 1
  }
  yield text.slice(start)
}

/** In characters; errors quote no more of a line. */
const SHOWN = 200

function malformed(name: string, number: number, line: string): ConveyorError {
  const shown = JSON.stringify(line.length > SHOWN ? `${line.slice(0, SHOWN)}...` : line)
  return new ConveyorError('build_failed', `${name}, line ${number}: ${shown} is not a valid pattern`, {
    hint: 'Close every [, and add a character after every \\ and a path after every !',
  })
}

/** Reads a line as Docker's parser does; '' if it is empty, or a comment. */
function readLine(whole: string): string {
  // Only a # in the first column starts a comment.
  const line = whole.startsWith('#') ? '' : trimSpace(whole)
  const marked = line.startsWith('!')
  let path = marked ? trimSpace(line.slice(1)) : line
  if (path !== '') path = clean(path)
  if (path.length > 1 && path.startsWith('/')) path = path.slice(1)
  return marked ? `!${path}` : path
}

/** Normalizes what was read as Docker's matcher does, which trims and cleans it, too; '' is not a pattern. */
function cleanPattern(text: string): string {
  const whole = trimSpace(text)
  return whole === '' ? '' : clean(whole)
}

function parsePattern(cleaned: string): Pattern | null {
  const exception = cleaned.startsWith('!')
  const text = exception ? cleaned.slice(1) : cleaned
  if (text === '') return null
  const glob = compileGlob(text)
  return glob && { text, exception, glob }
}

/**
 * The shortest equivalent path: no `.`, no `a/..`, no `//`, no trailing slash. In one pass: posix.normalize is
 * quadratic in `..`.
 */
function clean(path: string): string {
  const rooted = path.startsWith('/')
  const parts: string[] = []
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') parts.push(part)
    else if (parts.length > 0 && parts.at(-1) !== '..') parts.pop()
    else if (!rooted) parts.push(part)
  }
  return (rooted ? '/' : '') + parts.join('/') || '.'
}

/**
 * Consecutive patterns, or consecutive exceptions, form a run. Within a run, it makes no difference which of them
 * matches: a matching directory is excluded, or re-included, with everything in it.
 */
async function dockerignore(
  patterns: readonly Pattern[],
  name: string,
  pace: Pace,
): Promise<Omit<Dockerignore, 'lines'>> {
  /** For each run, whether it consists of exceptions. */
  const runs: boolean[] = []
  const inRuns: GroupedGlob[] = []
  await pace.forEach(patterns, ({ exception, glob }) => {
    if (runs.at(-1) !== exception) runs.push(exception)
    inRuns.push({ glob, group: runs.length - 1 })
  })
  const matching = await PatternSet.of(inRuns, runs.length, pace)
  const exceptions = patterns.filter(({ exception }) => exception)
  const canReturnBelow = await belowTest(
    exceptions.map(({ text }) => text),
    pace,
  )
  const nothing = new Uint32Array((runs.length + 31) >>> 5)

  function judge(path: string, parent?: IgnoreVerdict): IgnoreVerdict {
    const above = parent?.matched ?? nothing
    let matched = above
    let excluded = false
    if (!matching.ask(path)) throw tooMuch(name)
    for (let run = 0; run < runs.length; run++) {
      const exception = runs[run] ?? false
      const bit = 1 << (run & 31)
      // A match of the directory applies to everything in it.
      if (((above[run >>> 5] ?? 0) & bit) !== 0) excluded = !exception
      // A pattern that would change nothing is not tried, and then not remembered for paths below
      // either, as in Docker.
      else if (exception === excluded && matching.has(run)) {
        if (matched === above) matched = above.slice()
        matched[run >>> 5] = (matched[run >>> 5] ?? 0) | bit
        excluded = !exception
      }
    }
    return { excluded, final: excluded && !canReturnBelow(path), matched }
  }

  function judgeFromRoot(path: string): IgnoreVerdict {
    let verdict: IgnoreVerdict | undefined
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      verdict = judge(path.slice(0, slash), verdict)
      if (verdict.final) return verdict
    }
    return judge(path, verdict)
  }

  return {
    excludes: (path) => judgeFromRoot(path).excluded,
    excludesAll: (path) => judgeFromRoot(path).final,
    judge,
  }
}
