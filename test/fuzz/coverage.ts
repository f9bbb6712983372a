import { readdir, readFile, stat } from 'node:fs/promises'
import { Session } from 'node:inspector/promises'
import { join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { projectRoot } from '../support/processes.ts'

/** How many lines of code of a file were covered. */
export interface Reached {
  /** Relative to src/lib. */
  file: string
  lines: number
  reached: number
  /** Numbers of the uncovered lines, from 1. */
  missed: number[]
}

const LIB = join(projectRoot, 'src/lib')

/**
 * Line coverage, from V8's counts of blocks. Start it before the parsers are imported: for code that was compiled
 * earlier, V8 only counts functions. Node's type stripping keeps line numbers.
 */
export async function startCoverage(): Promise<{ of(parsers: readonly string[]): Promise<Reached[]> }> {
  const session = new Session()
  session.connect()
  await session.post('Profiler.enable')
  await session.post('Profiler.startPreciseCoverage', { callCount: false, detailed: true })
  return {
    async of(parsers) {
      const { result } = await session.post('Profiler.takePreciseCoverage')
      const files = (await Promise.all(parsers.map(sourcesOf))).flat()
      return Promise.all(
        [...new Set(files)].sort().map(async (file) => {
          const url = pathToFileURL(file).href
          const script = result.find((one) => one.url === url)
          const ranges = (script?.functions ?? []).flatMap(({ ranges: own }) => own)
          return reachedOf(relative(LIB, file), await readFile(file, 'utf8'), ranges)
        }),
      )
    },
  }
}

async function sourcesOf(name: string): Promise<string[]> {
  const path = join(LIB, name)
  if (!(await stat(path)).isDirectory()) return [path]
  const names = await readdir(path)
  return names.filter((one) => one.endsWith('.ts')).map((one) => join(path, one))
}

interface Range {
  startOffset: number
  endOffset: number
  count: number
}

/** Ranges are nested, and the innermost one counts. A file that never ran has no ranges. */
function reachedOf(file: string, text: string, ranges: Range[]): Reached {
  const count = new Uint8Array(text.length)
  const outermostFirst = ranges.toSorted((a, b) => a.startOffset - b.startOffset || b.endOffset - a.endOffset)
  for (const range of outermostFirst) count.fill(range.count > 0 ? 1 : 0, range.startOffset, range.endOffset)
  const result: Reached = { file, lines: 0, reached: 0, missed: [] }
  let start = 0
  for (const [index, isCode] of codeLines(text).entries()) {
    const end = text.indexOf('\n', start)
    const line = text.slice(start, end < 0 ? text.length : end)
    if (isCode) {
      result.lines += 1
      const first = start + (line.length - line.trimStart().length)
      if (count[first] === 1) result.reached += 1
      else result.missed.push(index + 1)
    }
    start += line.length + 1
  }
  return result
}

/** Which lines contain executable code: not blanks, comments, types, imports, or lone closing brackets. */
function codeLines(text: string): boolean[] {
  let within: 'comment' | 'type' | 'import' | null = null
  return text.split('\n').map((line) => {
    const words = line.trim()
    if (within === 'comment') {
      if (words.includes('*/')) within = null
      return false
    }
    if (within === 'type' || within === 'import') {
      if (within === 'type' ? /^\S/.test(line) : / from '/.test(line)) within = null
      return false
    }
    if (words.startsWith('/*')) {
      if (!words.includes('*/')) within = 'comment'
      return false
    }
    if (/^(export )?(interface|declare) .*\{$/.test(line) || /^(export )?type [^=]+=\s*[{|]?$/.test(line)) {
      within = 'type'
      return false
    }
    if (/^import /.test(line)) {
      if (!/ from '/.test(line)) within = 'import'
      return false
    }
    return !/^(\/\/.*|[)\]}>,;]*|(export )?(type|interface) .*|readonly #?\w+: [^=]*|#\w+: [^=]*|\w+\??: [\w[\]<>| .]+)$/.test(
      words,
    )
  })
}

/** The combined coverage of two processes. */
export function merged(some: readonly Reached[], others: readonly Reached[]): Reached[] {
  const byFile = new Map(some.map((one) => [one.file, one]))
  for (const other of others) {
    const one = byFile.get(other.file)
    const missed = one ? one.missed.filter((line) => other.missed.includes(line)) : other.missed
    byFile.set(other.file, { ...other, missed, reached: other.lines - missed.length })
  }
  return [...byFile.values()].sort((a, b) => (a.file < b.file ? -1 : 1))
}

const LEAST = 0.9

/** Whether less than 90% of the lines were covered. */
export function isTooLittle({ lines, reached }: Reached): boolean {
  return reached < LEAST * lines
}

/** A table of the share of covered lines of each file. */
export function tableOf(all: readonly Reached[], withMissed: boolean): string[] {
  return all.map(({ file, lines, reached, missed }) => {
    const share = `${Math.floor((100 * reached) / Math.max(1, lines))} %`.padStart(6)
    const not = withMissed && missed.length > 0 ? `  missed: ${rangesOf(missed)}` : ''
    return `${share}  ${`${reached}/${lines}`.padStart(8)}  ${file}${not}`
  })
}

function rangesOf(numbers: readonly number[]): string {
  const ranges: [from: number, to: number][] = []
  for (const number of numbers) {
    const last = ranges.at(-1)
    if (last && number === last[1] + 1) last[1] = number
    else ranges.push([number, number])
  }
  return ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(', ')
}
