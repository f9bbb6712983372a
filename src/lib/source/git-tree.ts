import { ConveyorError } from '../errors.ts'
import type { Git } from './git.ts'

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

/**
 * Every file of a tree, sorted so that `/` comes before every other byte: the order in which a walk that
 * goes into each directory meets them.
 */
export async function readTree(
  git: Git,
  gitDir: string,
  treeish: string,
  signal?: AbortSignal,
): Promise<TreeFile[]> {
  const args = ['ls-tree', '-r', '-l', '-z', '--full-tree', '--end-of-options', treeish]
  const list = git.start(args, { gitDir, signal })
  list.stdin.end()
  const found: Keyed[] = []
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of list.stdout as AsyncIterable<Buffer>) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    rest = bytes.subarray(parseEntries(bytes, found))
  }
  await list.ended
  // git's own order is nearly this one, which makes the sort little more than a single pass.
  found.sort((a, b) => (a.key < b.key ? -1 : 1))
  refuseDoubles(found)
  return found.map(({ file }) => file)
}

interface Keyed {
  /** The path, one character per byte, with a zero for each `/`: sorting these sorts the files. */
  key: string
  file: TreeFile
}

/**
 * Reads the complete entries in `bytes`, each `100644 blob <oid> <size, padded>\t<path>\0`; the size of a
 * submodule is `-`. Returns where the incomplete one begins.
 */
function parseEntries(bytes: Buffer, found: Keyed[]): number {
  // One conversion for all: cutting a string into pieces is much cheaper than converting each piece.
  const text = bytes.toString('latin1')
  const ascii = !/[\x80-\xff]/.test(text)
  let start = 0
  for (let end = text.indexOf('\0'); end >= 0; end = text.indexOf('\0', start)) {
    const tab = text.indexOf('\t', start)
    const oidStart = text.indexOf(' ', start + 7) + 1
    const oidEnd = text.indexOf(' ', oidStart)
    const path = ascii ? text.slice(tab + 1, end) : bytes.toString('utf8', tab + 1, end)
    if (suspicious(path)) refuse(path)
    found.push({
      key: text.slice(tab + 1, end).replaceAll('/', '\0'),
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
function refuseDoubles(sorted: readonly Keyed[]): void {
  let last: Keyed | undefined
  for (const one of sorted) {
    if (last && (one.key === last.key || one.key.startsWith(`${last.key}\0`))) {
      const path = JSON.stringify(last.file.path)
      throw new ConveyorError('build_failed', `the commit has two entries for the path ${path}`, {
        hint: 'No git program makes such a commit: make it anew, and push that',
      })
    }
    last = one
  }
}

function refuse(path: string): never {
  const message = `the commit has a path that git refuses to check out: ${JSON.stringify(path)}`
  throw new ConveyorError('build_failed', message)
}
