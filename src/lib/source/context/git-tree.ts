import { ConveyorError } from '../../core/errors.ts'
import type { Pace } from '../../util/pace.ts'
import type { Git } from '../git/git.ts'

/** A blob or submodule of a tree. */
export interface TreeFile {
  path: string
  rawPath: Buffer
  /** An empty directory is only in what is added to a tree. */
  kind: 'file' | 'executable' | 'symlink' | 'submodule' | 'directory'
  oid: string
  /** Bytes of the blob; 0 for a submodule. */
  size: number
}

/** Names that git refuses to check out; only a forged tree has them. */
const FORGED = /(?:^|\/)(?:\.{1,2}|\.git)?(?:\/|$)/i

/** Limits of a tree. The defaults are far beyond real monorepos. */
export interface TreeLimits {
  files: number
  /** Total length of all paths in bytes, including directories. */
  pathBytes: number
  /** Nesting of directories. */
  depth: number
}

export const TREE_LIMITS: TreeLimits = { files: 500_000, pathBytes: 64 << 20, depth: 500 }
/** Limit of Linux, and so of git's checkout. */
const MAX_PATH = 4095
/** Upper limit for an entry of ls-tree without its path. */
const LINE_BYTES = 128
/** Files after these are only counted, until the whole tree is known to be within the limits. */
const PARSED_AT_ONCE = 50_000

/**
 * Every file of a tree, sorted so that `/` comes before every other byte: the order of a depth-first walk. git is
 * stopped as soon as a limit is exceeded: a few kilobytes of objects can expand to millions of paths.
 * @throws ConveyorError `build_failed` for paths that git would not check out, and beyond the limits
 */
export async function readTree(
  git: Git,
  gitDir: string,
  treeish: string,
  pace: Pace,
  { limits = TREE_LIMITS, signal }: { limits?: TreeLimits; signal?: AbortSignal | undefined } = {},
): Promise<TreeFile[]> {
  const args = ['ls-tree', '-r', '-l', '-z', '--full-tree', '--end-of-options', treeish]
  const list = git.start(args, { gitDir, signal })
  list.stdin.end()
  const tree = new TreeParser(limits)
  const later: Buffer[] = []
  let [files, bytes] = [0, 0]
  try {
    for await (const chunk of list.stdout as AsyncIterable<Buffer>) {
      files += countZeros(chunk)
      bytes += chunk.length
      if (files > limits.files) throw tooMuch(`more than ${limits.files} files`)
      if (bytes > limits.pathBytes + files * LINE_BYTES + chunk.length) throw tooLongPaths(limits)
      if (files > PARSED_AT_ONCE) later.push(chunk)
      else tree.take(chunk)
    }
  } catch (error) {
    list.stop()
    throw error
  }
  await list.ended
  // Each has hundreds of files: too many for forEach.
  for (const chunk of later) {
    tree.take(chunk)
    if (pace.isDue) await pace.rest()
  }
  // git's own order is almost this one.
  const found = await pace.sorted(tree.found, (a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
  await rejectDuplicates(found, pace)
  return found.map(({ file }) => file)
}

/** End of a path in `ls-tree -z` and what reads `-z --stdin`. */
const END = Buffer.alloc(1)

/**
 * The paths of files as a git command reads them with `-z --stdin`.
 * @param skip bytes at the beginning of each path that the command does not know
 */
export async function pathList(files: readonly TreeFile[], skip: number, pace: Pace): Promise<Buffer> {
  const paths: Buffer[] = []
  await pace.forEach(files, ({ rawPath }) => paths.push(rawPath.subarray(skip), END))
  return Buffer.concat(paths)
}

interface Keyed {
  /** Sort key: the path, one character per byte, with a zero for each `/`. */
  key: string
  file: TreeFile
}

function countZeros(chunk: Buffer): number {
  let count = 0
  for (let at = chunk.indexOf(0); at >= 0; at = chunk.indexOf(0, at + 1)) count += 1
  return count
}

/** Parses the output of ls-tree incrementally. */
class TreeParser {
  readonly found: Keyed[] = []
  readonly #limits: TreeLimits
  #rest: Buffer = Buffer.alloc(0)
  #pathBytes = 0
  #last = ''

  constructor(limits: TreeLimits) {
    this.#limits = limits
  }

  take(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    this.#rest = bytes.subarray(this.#parse(bytes))
    if (this.#rest.length > MAX_PATH + LINE_BYTES)
      rejectLong(this.#rest.toString('latin1'), this.#rest.length)
  }

  /**
   * Parses the complete entries in `bytes`, each `100644 blob <oid> <size, padded>\t<path>\0`; the size of a
   * submodule is `-`. Returns the offset of the incomplete entry at the end.
   */
  #parse(bytes: Buffer): number {
    // One conversion for all: slicing a string is much cheaper than decoding each piece.
    const text = bytes.toString('latin1')
    const ascii = !/[\x80-\xff]/.test(text)
    let start = 0
    for (let end = text.indexOf('\0'); end >= 0; end = text.indexOf('\0', start)) {
      const tab = text.indexOf('\t', start)
      const oidStart = text.indexOf(' ', start + 7) + 1
      const oidEnd = text.indexOf(' ', oidStart)
      const path = ascii ? text.slice(tab + 1, end) : bytes.toString('utf8', tab + 1, end)
      rejectLong(path, end - tab - 1)
      if (suspicious(path)) rejectPath(path)
      const key = text.slice(tab + 1, end).replaceAll('/', '\0')
      this.#count(key)
      this.found.push({
        key,
        file: {
          path,
          rawPath: bytes.subarray(tab + 1, end),
          kind: kindOf(text.slice(start, start + 6)),
          oid: text.slice(oidStart, oidEnd),
          size: Number(text.slice(oidEnd, tab)) || 0,
        },
      })
      start = end + 1
    }
    return start
  }

  /** Counts a file, and the directories whose first file it is: the entries are in the order of a walk, too. */
  #count(key: string): void {
    const last = this.#last
    this.#last = key
    this.#pathBytes += key.length
    let depth = 0
    let common = true
    let start = 0
    // Nearly always it is in the same directory as the last one.
    const isSibling = last.startsWith(key.slice(0, key.lastIndexOf('\0') + 1))
    for (let end = isSibling ? -1 : key.indexOf('\0'); end >= 0; end = key.indexOf('\0', start)) {
      depth += 1
      common &&= last.startsWith(key.slice(start, end + 1), start)
      if (!common) this.#pathBytes += end
      start = end + 1
    }
    if (depth > this.#limits.depth) throw tooMuch(`more than ${this.#limits.depth} nested directories`)
    if (this.#pathBytes > this.#limits.pathBytes) throw tooLongPaths(this.#limits)
  }
}

function tooLongPaths({ pathBytes }: TreeLimits): ConveyorError {
  return tooMuch(`more than ${pathBytes / (1 << 20)} MiB of paths`)
}

function tooMuch(what: string): ConveyorError {
  return new ConveyorError('build_failed', `the commit has ${what}, which exceeds the limit`, {
    hint: 'Check what was added last; if it is intended, split the repository',
  })
}

function kindOf(mode: string): TreeFile['kind'] {
  if (mode === '100644') return 'file'
  if (mode === '120000') return 'symlink'
  if (mode === '160000') return 'submodule'
  // Old repositories have modes such as 100664: git uses only the owner's x bit.
  return (Number.parseInt(mode, 8) & 0o100) !== 0 ? 'executable' : 'file'
}

/** Fast for real paths. */
function suspicious(path: string): boolean {
  return (path.startsWith('.') || path.includes('/.') || path.includes('//')) && FORGED.test(path)
}

/**
 * Only a forged tree has a path twice, or a file and a folder of the same name. git's checkout and its conversions
 * may then take different ones.
 */
async function rejectDuplicates(sorted: readonly Keyed[], pace: Pace): Promise<void> {
  let last: Keyed | undefined
  await pace.forEach(sorted, (one) => {
    const length = last?.key.length ?? 0
    if (last && one.key.startsWith(last.key) && (one.key.length === length || one.key[length] === '\0')) {
      const path = JSON.stringify(last.file.path)
      throw new ConveyorError('build_failed', `the commit has two entries for the path ${path}`, {
        hint: 'git never creates such a commit: recreate it, and push it again',
      })
    }
    last = one
  })
}

function rejectPath(path: string): never {
  const message = `the commit has a path that git refuses to check out: ${JSON.stringify(path)}`
  throw new ConveyorError('build_failed', message)
}

/** @param bytes the path's length @throws ConveyorError `build_failed` if it is too long for Linux, and so for git */
export function rejectLong(path: string, bytes: number): void {
  if (bytes <= MAX_PATH) return
  const shown = JSON.stringify(`${path.slice(path.lastIndexOf('\t') + 1).slice(0, 80)}...`)
  throw new ConveyorError('build_failed', `the commit has a path of more than ${MAX_PATH} bytes: ${shown}`, {
    hint: 'git itself cannot check it out: shorten the path',
  })
}
