import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { lstat, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { batches } from '../../util/collections/batches.ts'
import { Pace } from '../../util/pace.ts'
import type { Git } from '../git/git.ts'
import type { BlobReader } from './blob-reader.ts'
import { pathList, type TreeFile } from './git-tree.ts'

/** The content of a file whose content in a checkout differs from its blob. */
export interface CheckedOut {
  size: number
  /** `sha256:` and the hash of the content. */
  contentId: string
}

/** A file that git converts. */
export interface Converted extends CheckedOut {
  /** Path of the converted content. */
  spool: Buffer
}

/** How .gitattributes affect the files of a tree. */
export interface Attributes {
  /** Files that `git checkout` converts. */
  convert: TreeFile[]
  /** Files that are stored in Git LFS, if they are pointers. */
  lfs: TreeFile[]
}

/** A .gitattributes without a match cannot change the content of a checkout on Linux. */
const RELEVANT = /eol\s*=|ident|working-tree-encoding|filter\s*=\s*lfs/
/** Number of attributes files that are read concurrently. */
const READ_AT_ONCE = 1000
/** Number of files per git command, whose output is held in memory. */
const AT_ONCE = 10_000
/** Larger attribute files are not searched but considered relevant. */
const MAX_SEARCHED = 256 * 1024

/** Whether any attributes file of the tree is relevant for a build; in most trees none is. */
export async function attributesMatter(
  files: readonly TreeFile[],
  reader: BlobReader,
  signal?: AbortSignal,
): Promise<boolean> {
  const isSource = (file: TreeFile) => isRegular(file) && /(^|\/)\.gitattributes$/.test(file.path)
  const sources = await new Pace(signal).filter(files, isSource)
  const unique = [...new Map(sources.map((file) => [file.oid, file])).values()]
  if (unique.some(({ size }) => size > MAX_SEARCHED)) return true
  // Each read listens to the signal, which takes the longer, the more do.
  for (const some of batches(unique, READ_AT_ONCE)) {
    const answers = await Promise.all(
      some.map(async ({ oid, size }) =>
        RELEVANT.test((await reader.readSmall(oid, size, signal)).toString('latin1')),
      ),
    )
    if (answers.includes(true)) return true
  }
  return false
}

/**
 * Runs git's own attribute and conversion code without a checkout: it needs an index, which is created in a
 * temporary folder, and a work tree, which stays empty.
 */
export class CheckoutFilters {
  readonly #git: Git
  readonly #folder: string
  /** Bytes at the beginning of paths. */
  readonly #skip: number
  readonly #pace: Pace
  readonly #options: {
    gitDir: string
    cwd: string
    env: Record<string, string>
    signal: AbortSignal | undefined
  }

  /**
   * @param folder must not exist yet
   * @param prefix of the paths of files, which the tree does not have: it is that of a submodule
   */
  constructor(git: Git, gitDir: string, folder: string, prefix: Buffer, signal?: AbortSignal) {
    this.#git = git
    this.#folder = folder
    this.#skip = prefix.length
    this.#pace = new Pace(signal)
    const workTree = join(folder, 'empty')
    const env = { GIT_INDEX_FILE: join(folder, 'index'), GIT_WORK_TREE: workTree }
    this.#options = { gitDir, cwd: workTree, env, signal }
  }

  /** Reads the attributes of `files`, which belong to `tree`. */
  async attributes(tree: string, files: readonly TreeFile[]): Promise<Attributes> {
    await mkdir(this.#options.cwd, { recursive: true })
    await this.#git.run(['read-tree', tree], this.#options)
    const regular = files.filter(isRegular)
    const found: Attributes = { convert: [], lfs: [] }
    for (const some of batches(regular, AT_ONCE)) await this.#check(some, found)
    return found
  }

  async #check(files: readonly TreeFile[], found: Attributes): Promise<void> {
    const args = [
      'check-attr',
      '--cached',
      '--stdin',
      '-z',
      'eol',
      'ident',
      'working-tree-encoding',
      'filter',
    ]
    const output = await this.#git.run(args, { ...this.#options, input: await this.#paths(files) })
    // path, attribute, value, ...: four triples for each file, in the order of the arguments.
    const fields = output.toString('latin1').split('\0')
    await this.#pace.forEach(files.entries(), ([index, file]) => {
      const [eol, ident, encoding = '', filter] = [2, 5, 8, 11].map((at) => fields[index * 12 + at])
      const encoded = !/^(unspecified|unset|set)$/.test(encoding)
      if (eol === 'crlf' || ident === 'set' || encoded) found.convert.push(file)
      // What git passes to a filter is encoded already: no pointer any more.
      if (filter === 'lfs' && !encoded) found.lfs.push(file)
    })
  }

  /** The files that match one of these lines of a .gitignore, at least one of which is given. */
  async matching(files: readonly TreeFile[], patterns: string): Promise<Set<TreeFile>> {
    // git fails if nothing matches.
    const always = Buffer.from('.git-lfs-none\0')
    const excludes = join(this.#folder, 'patterns')
    await writeFile(excludes, `${patterns}/.git-lfs-none\n`)
    const matching = new Set<TreeFile>()
    for (const some of batches(files, AT_ONCE)) {
      const output = await this.#git.run(['check-ignore', '--no-index', '--stdin', '-z'], {
        ...this.#options,
        config: [['core.excludesFile', excludes]],
        input: Buffer.concat([await this.#paths(some), always]),
      })
      const matched = new Set(output.toString('latin1').split('\0'))
      await this.#pace.forEach(some, (file) => {
        if (matched.has(this.#inside(file).toString('latin1'))) matching.add(file)
      })
    }
    return matching
  }

  /** Writes files as a checkout would, into the folder. */
  async convert(files: readonly TreeFile[]): Promise<Map<TreeFile, Converted>> {
    const target = join(this.#folder, 'converted')
    const args = ['checkout-index', '--stdin', '-z', '-q', `--prefix=${target}/`]
    for (const some of batches(files, AT_ONCE)) {
      await this.#git.run(args, { ...this.#options, input: await this.#paths(some) })
    }
    const converted = new Map<TreeFile, Converted>()
    for (const file of files) {
      const spool = Buffer.concat([Buffer.from(`${target}/`), this.#inside(file)])
      converted.set(file, await describe(spool))
    }
    return converted
  }

  /** The path in the tree. */
  #inside({ rawPath }: TreeFile): Buffer {
    return rawPath.subarray(this.#skip)
  }

  #paths(files: readonly TreeFile[]): Promise<Buffer> {
    return pathList(files, this.#skip, this.#pace)
  }
}

async function describe(spool: Buffer): Promise<Converted> {
  const stats = await lstat(spool)
  if (!stats.isFile()) throw new Error(`git wrote ${spool} as something other than a file`)
  const { size } = stats
  const hash = createHash('sha256')
  await pipeline(createReadStream(spool), hash)
  return { spool, size, contentId: `sha256:${hash.digest('hex')}` }
}

function isRegular({ kind }: TreeFile): boolean {
  return kind === 'file' || kind === 'executable'
}
