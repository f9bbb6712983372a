import { posix } from 'node:path'
import { ConveyorError } from '../errors.ts'
import { compileGlob } from '../util/glob.ts'

/**
 * .dockerignore by Docker's own rules, as BuildKit applies them to a build context. They differ from
 * .gitignore: a pattern is anchored at the root, and a `!` can bring back a file of an excluded directory.
 * https://docs.docker.com/build/concepts/context/#dockerignore-files
 */
export interface Dockerignore {
  /** Whether a path (`a/b`, `/` between parts) is left out of the context, by itself or with a parent. */
  excludes(path: string): boolean
  /**
   * The same for a walk from the root downwards, where the parent's verdict is known: much cheaper.
   * @param parent verdict of the directory that holds `path`; absent for what is in the root.
   */
  judge(path: string, parent?: Verdict): Verdict
}

export interface Verdict {
  excluded: boolean
  /** Nothing below this directory can come back: it need not be looked at. */
  final: boolean
  /** Which patterns matched, for the verdicts of what is below. */
  matched: readonly boolean[]
}

interface Pattern {
  /** Cleaned, without the `!`. */
  text: string
  /** `!`: brings back what an earlier pattern excluded. */
  exception: boolean
  matches(path: string): boolean
}

/**
 * Reads the text of an ignore file.
 * @param name how errors call the file.
 * @throws ConveyorError `build_failed` naming file, line and pattern when a pattern is malformed.
 */
export function parseDockerignore(text: string, name = '.dockerignore'): Dockerignore {
  const patterns: Pattern[] = []
  const lines = text.replace(/^\uFEFF/, '').split('\n')
  for (const [index, line] of lines.entries()) {
    // Only a # in the very first column makes a comment.
    if (line.startsWith('#') || line.trim() === '') continue
    const pattern = parsePattern(line.trim())
    if (!pattern) {
      throw new ConveyorError(
        'build_failed',
        `${name}, line ${index + 1}: ${JSON.stringify(line.trim())} is not a valid pattern`,
        { hint: 'Close every [, put a character after every \\ and a path after every !' },
      )
    }
    patterns.push(pattern)
  }
  return dockerignore(patterns)
}

function parsePattern(line: string): Pattern | null {
  const marked = line.startsWith('!')
  let path = marked ? line.slice(1).trim() : line
  if (path !== '') path = clean(path)
  if (path.length > 1 && path.startsWith('/')) path = path.slice(1)
  // Docker cleans a second time, with the ! in place. It only shows in oddities such as `!/`.
  const whole = clean(marked ? `!${path}` : path)
  const exception = whole.startsWith('!')
  const text = exception ? whole.slice(1) : whole
  if (text === '') return null
  const matches = compileGlob(text)
  return matches && { text, exception, matches }
}

/** The shortest equal path: no `.`, no `a/..`, no `//`, no trailing slash. */
function clean(path: string): string {
  const normal = posix.normalize(path)
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal
}

function dockerignore(patterns: readonly Pattern[]): Dockerignore {
  const exceptions = patterns.filter((pattern) => pattern.exception)
  const canReturnBelow = belowTest(exceptions)

  function judge(path: string, parent?: Verdict): Verdict {
    const matched = new Array<boolean>(patterns.length).fill(false)
    let excluded = false
    for (const [i, pattern] of patterns.entries()) {
      // What matched the directory holds for all that is in it.
      let match = parent?.matched[i] ?? false
      // A pattern that would change nothing is not tried; that it is then also not remembered for
      // what lies below is how Docker does it.
      if (!match && pattern.exception === excluded) match = pattern.matches(path)
      if (match) {
        matched[i] = true
        excluded = !pattern.exception
      }
    }
    return { excluded, final: excluded && !canReturnBelow(path), matched }
  }

  function excludes(path: string): boolean {
    let verdict: Verdict | undefined
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      verdict = judge(path.slice(0, slash), verdict)
    }
    return judge(path, verdict).excluded
  }

  return { excludes, judge }
}

/** Whether some exception may match below a directory; may say yes needlessly, never no wrongly. */
function belowTest(exceptions: readonly Pattern[]): (directory: string) => boolean {
  const roots = exceptions.map((pattern) => pattern.text.replace(/\/\*\*?$/, ''))
  if (roots.some((root) => /[*?[\]^\\]/.test(root))) return () => true
  return (directory) => roots.some((root) => `${root}/`.startsWith(`${directory}/`))
}
