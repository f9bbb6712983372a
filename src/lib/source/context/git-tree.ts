import { ConveyorError } from '../../core/errors.ts'
import type { Pace } from '../../util/pace.ts'
import type { Git } from '../git/git.ts'

/** A blob or submodule of a tree. */
export interface TreeFile {
  path: string
  rawPath: Buffer
  kind: 'file' | 'executable' | 'symlink' | 'submodule'
  oid: string
  /** Bytes of the blob; 0 for a submodule. */
  size: number
}

/** Names that git itself never checks out: only a forged tree has them. */
const FORGED = /(?:^|\/)(?:\.{1,2}|\.git)?(?:\/|$)/i

/** Larger trees are refused, with what is too much of them. The defaults are far beyond real monorepos. */
export interface TreeLimits {
  files: number
  /** All paths together, in bytes, those of directories too. */
  pathBytes: number
  /** Directories in each other. */
  depth: number
}

const TREE_LIMITS: TreeLimits = { files: 500_000, pathBytes: 64 << 20, depth: 500 }
/** As long as Linux takes it, and so as git checks it out. */
const MAX_PATH = 4095
/** What ls-tree writes of a file besides its path is less. */
const LINE_BYTES = 128
/** What follows these is only counted until it is known that it is not too much. */
const PARSED_AT_ONCE = 50_000

/**
 * Every file of a tree, sorted so that `/` comes before every other byte: the order in which a walk that
 * goes into each directory meets them. git is ended as soon as there is too much of something: a few kilobytes of
 * objects can make millions of paths.
 * @throws ConveyorError `build_failed` for what git would not check out, and beyond the limits
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
  const tree = new Reading(limits)
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
  await pace.forEach(later, (chunk) => tree.take(chunk))
  // git's own order is nearly this one.
  const found = await pace.sorted(tree.found, (a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
  await refuseDoubles(found, pace)
  return found.map(({ file }) => file)
}

interface Keyed {
  /** The path, one character per byte, with a zero for each `/`: sorting these sorts the files. */
  key: string
  file: TreeFile
}

function countZeros(chunk: Buffer): number {
  let count = 0
  for (let at = chunk.indexOf(0); at >= 0; at = chunk.indexOf(0, at + 1)) count += 1
  return count
}

/** The output of ls-tree, piece by piece. */
class Reading {
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
    if (this.#rest.length > MAX_PATH + LINE_BYTES) refuseLong(this.#rest.toString('latin1'))
  }

  /**
   * Reads the complete entries in `bytes`, each `100644 blob <oid> <size, padded>\t<path>\0`; the size of a
   * submodule is `-`. Returns where the incomplete one begins.
   */
  #parse(bytes: Buffer): number {
    // One conversion for all: cutting a string into pieces is much cheaper than converting each piece.
    const text = bytes.toString('latin1')
    const ascii = !/[\x80-\xff]/.test(text)
    let start = 0
    for (let end = text.indexOf('\0'); end >= 0; end = text.indexOf('\0', start)) {
      const tab = text.indexOf('\t', start)
      const oidStart = text.indexOf(' ', start + 7) + 1
      const oidEnd = text.indexOf(' ', oidStart)
      const path = ascii ? text.slice(tab + 1, end) : bytes.toString('utf8', tab + 1, end)
      if (end - tab > MAX_PATH + 1) refuseLong(path)
      if (suspicious(path)) refuse(path)
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

  /** Counts a file, and the directories that it is the first one of: they are in the order of a walk, too. */
  #count(key: string): void {
    const last = this.#last
    this.#last = key
    this.#pathBytes += key.length
    let depth = 0
    let common = true
    let start = 0
    // Nearly always it is one more in the same directory.
    const isBeside = last.startsWith(key.slice(0, key.lastIndexOf('\0') + 1))
    for (let end = isBeside ? -1 : key.indexOf('\0'); end >= 0; end = key.indexOf('\0', start)) {
      depth += 1
      common &&= last.startsWith(key.slice(start, end + 1), start)
      if (!common) this.#pathBytes += end
      start = end + 1
    }
    if (depth > this.#limits.depth) throw tooMuch(`more than ${this.#limits.depth} directories in each other`)
    if (this.#pathBytes > this.#limits.pathBytes) throw tooLongPaths(this.#limits)
  }
}

function tooLongPaths({ pathBytes }: TreeLimits): ConveyorError {
  return tooMuch(`paths of more than ${pathBytes / (1 << 20)} MiB together`)
}

function tooMuch(what: string): ConveyorError {
  return new ConveyorError('build_failed', `the commit has ${what}: such large trees are not built`, {
    hint: 'If that is not what was meant, look at what was added last; else split the repository',
  })
}

function kindOf(mode: string): TreeFile['kind'] {
  if (mode === '100644') return 'file'
  if (mode === '120000') return 'symlink'
  if (mode === '160000') return 'submodule'
  // Old repositories have modes such as 100664: git checks out by the owner's x bit alone.
  return (Number.parseInt(mode, 8) & 0o100) !== 0 ? 'executable' : 'file'
}

/** Quick to say no for the paths of real life. */
function suspicious(path: string): boolean {
  return (path.startsWith('.') || path.includes('/.') || path.includes('//')) && FORGED.test(path)
}

/**
 * Only a forged tree has a path twice, or a file where it has a folder, too. What git would make of the one, its
 * own conversions may take for the other.
 */
async function refuseDoubles(sorted: readonly Keyed[], pace: Pace): Promise<void> {
  let last: Keyed | undefined
  await pace.forEach(sorted, (one) => {
    const length = last?.key.length ?? 0
    if (last && one.key.startsWith(last.key) && (one.key.length === length || one.key[length] === '\0')) {
      const path = JSON.stringify(last.file.path)
      throw new ConveyorError('build_failed', `the commit has two entries for the path ${path}`, {
        hint: 'No git program makes such a commit: make it anew, and push that',
      })
    }
    last = one
  })
}

function refuse(path: string): never {
  const message = `the commit has a path that git refuses to check out: ${JSON.stringify(path)}`
  throw new ConveyorError('build_failed', message)
}

function refuseLong(path: string): never {
  const shown = JSON.stringify(`${path.slice(path.lastIndexOf('\t') + 1).slice(0, 80)}...`)
  throw new ConveyorError('build_failed', `the commit has a path of more than ${MAX_PATH} bytes: ${shown}`, {
    hint: 'git itself cannot check it out: shorten it',
  })
}
