import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { Pace } from '../../util/pace.ts'
import type { CommitHistory } from '../git/commit-history.ts'
import type { Git } from '../git/git.ts'
import { OFFLINE } from '../git/history.ts'
import type { Commit } from '../source.ts'
import type { CheckedOut, Converted } from './checkout-filters.ts'
import type { ContextPart, ContextTree } from './context-tree.ts'
import type { Dockerignore } from './dockerignore.ts'
import type { TreeFile } from './git-tree.ts'
import { looseSize } from './loose-object.ts'

/** Content ids of blobs in git's loose format: this, and the id of the blob. */
const LOOSE = 'loose:'

/** What a context has in its `.git` folders. */
export interface GitFolders {
  /** The files, unsorted; their oids are content ids. */
  files: TreeFile[]
  /** Where the content is, by content id; for LOOSE ones, it is made of the blob. */
  spools: Map<string, string>
  /** The blobs of LOOSE ones by content id. */
  blobs: Map<string, TreeFile>
}

interface Options {
  git: Git
  history: (commit: Commit) => Promise<CommitHistory>
  /** For files; created when needed. */
  folder: string
  pace: Pace
  signal: AbortSignal | undefined
}

interface PartOptions extends Options {
  /** Whether an entry of a tree is in the context. */
  isThere: (file: TreeFile) => boolean
  /** Whether it is there with a content that only git-lfs can compare with what is in git. */
  isLfs: (file: TreeFile) => boolean
}

/** The same bytes from every version of git and zlib: nothing is compressed, or compared with anything else. */
const PACKING = [
  ...['pack-objects', '-q', '--threads=1', '--window=0', '--depth=0', '--compression=0'],
  ...['--no-reuse-delta', '--no-reuse-object', '--index-version=2'],
]
const PACK_CONFIG: [string, string][] = [
  ['pack.writeReverseIndex', 'false'],
  ['pack.packSizeLimit', '0'],
]
const INDEX_CONFIG: [string, string][] = [
  ['index.version', '2'],
  ['index.threads', '1'],
  ['index.skipHash', 'false'],
  ['core.untrackedCache', 'false'],
  ['core.splitIndex', 'false'],
  ['core.fsmonitor', 'false'],
]

/**
 * Makes the `.git` folders of a context: that of the commit, and those of submodules.
 * @param listed what is in the context
 */
export async function gitFolders(
  tree: ContextTree,
  listed: readonly TreeFile[],
  options: Options & {
    ignore: Dockerignore | undefined
    converted: ReadonlyMap<TreeFile, CheckedOut | Converted>
    log: ((line: string) => void) | undefined
  },
): Promise<GitFolders> {
  const { ignore, converted, log } = options
  const all: GitFolders = { files: [], spools: new Map(), blobs: new Map() }
  const there = new Set(listed)
  const isThere = (file: TreeFile) => there.has(file) || tree.isExpanded(file)
  const isLfs = (file: TreeFile) => {
    const found = converted.get(file)
    return found !== undefined && !('spool' in found)
  }
  for (const [index, part] of tree.parts.entries()) {
    const path = `${part.prefix.toString('utf8')}.git`
    if (ignore?.excludesAll(path)) {
      log?.(`${path} is excluded by .dockerignore`)
      continue
    }
    const folder = join(options.folder, `git${index}`)
    await addGitFolder(part, { ...options, folder, isThere, isLfs }, all)
  }
  return all
}

/**
 * Makes the `.git` folder of a repository: as after a clone, but the commits before this one have no files (it is a
 * partial clone, `--filter=tree:0`), and there are only the tags that `git describe` can find. The bytes depend on the
 * commit, those tags, and the files that .dockerignore excludes. Submodules have their own folder, not one in the parent's:
 * so each is a repository wherever it is copied to.
 */
async function addGitFolder(part: ContextPart, options: PartOptions, all: GitFolders): Promise<void> {
  const { git, folder, signal } = options
  const { commit } = part
  const history = await options.history(commit)
  const files = join(folder, 'git')
  const workTree = join(folder, 'empty')
  const packs = join(files, 'objects/pack')
  await mkdir(packs, { recursive: true })
  await mkdir(workTree, { recursive: true })
  const [base, recent] = history.commits
  const trees = new Set(await treesOf(commit.gitDir, commit.tree))
  for (const tree of history.parentTrees) {
    for (const one of await treesOf(history.gitDir, tree)) trees.add(one)
  }
  await pack(base)
  await pack([...new Set([...recent, ...history.tagObjects, ...[...trees].sort()])])
  await writeIndex()
  await writeFile(join(files, 'HEAD'), `${commit.sha}\n`)
  await writeFile(join(files, 'config'), configOf(commit))
  const refs = history.tags.map(({ ref, oid }) => `${oid} ${ref}\n`).join('')
  if (refs !== '') await writeFile(join(files, 'packed-refs'), `# pack-refs with: sorted \n${refs}`)
  await collect()

  /** A tree and those in it. */
  async function treesOf(gitDir: string, tree: string): Promise<string[]> {
    const args = ['ls-tree', '-r', '-d', '--format=%(objecttype) %(objectname)', '--full-tree', tree]
    const lines = (await git.run(args, { gitDir, env: OFFLINE, signal })).toString('latin1').split('\n')
    return [tree, ...lines.filter((line) => line.startsWith('tree ')).map((line) => line.slice(5))]
  }

  async function pack(oids: string[]): Promise<void> {
    if (oids.length === 0) return
    await git.run([...PACKING, join(packs, 'pack')], {
      gitDir: history.gitDir,
      config: PACK_CONFIG,
      env: { ...OFFLINE, GIT_ALTERNATE_OBJECT_DIRECTORIES: JSON.stringify(join(commit.gitDir, 'objects')) },
      input: `${oids.join('\n')}\n`,
      signal,
    })
  }

  /** An index without times: git compares the files themselves once. Files that are not there are not expected either. */
  async function writeIndex(): Promise<void> {
    const env = { GIT_INDEX_FILE: join(files, 'index'), GIT_WORK_TREE: workTree }
    const how = { gitDir: commit.gitDir, cwd: workTree, env, config: INDEX_CONFIG, signal }
    await git.run(['read-tree', commit.tree], how)
    const mark = async (flag: string, marked: (file: TreeFile) => boolean) => {
      const paths = part.files.flatMap((file) =>
        marked(file) ? [file.rawPath.subarray(part.prefix.length), Buffer.alloc(1)] : [],
      )
      if (paths.length === 0) return
      await git.run(['update-index', flag, '-z', '--stdin'], { ...how, input: Buffer.concat(paths) })
    }
    await mark('--skip-worktree', (file) => !options.isThere(file))
    await mark('--assume-unchanged', options.isLfs)
  }

  async function collect(): Promise<void> {
    const found = await readdir(files, { recursive: true, withFileTypes: true })
    for (const one of found.filter((entry) => entry.isFile())) {
      const spool = join(one.parentPath, one.name)
      const { size } = await stat(spool)
      const hash = createHash('sha256')
      await pipeline(createReadStream(spool), hash)
      // Objects of git are there under another id, so these cannot be taken for one.
      const oid = `sha256:${hash.digest('hex')}`
      // git marks packs as part of a partial clone.
      const path = spool.slice(files.length + 1)
      all.files.push(entry(path, { oid, size }))
      all.spools.set(oid, spool)
      if (!path.endsWith('.pack')) continue
      const marker = path.replace(/pack$/, 'promisor')
      await writeFile(join(files, marker), '')
      const nothing = `sha256:${createHash('sha256').digest('hex')}`
      all.files.push(entry(marker, { oid: nothing, size: 0 }))
      all.spools.set(nothing, join(files, marker))
    }
    all.files.push({ ...entry('refs', { oid: '', size: 0 }), kind: 'directory' })
    const blobs = new Map<string, TreeFile>()
    await options.pace.forEach(part.files, (file) => {
      if (file.kind !== 'submodule') blobs.set(file.oid, file)
    })
    await options.pace.forEach(blobs.values(), (file) => {
      const oid = `${LOOSE}${file.oid}`
      const path = `objects/${file.oid.slice(0, 2)}/${file.oid.slice(2)}`
      all.files.push(entry(path, { oid, size: looseSize(file.size) }))
      all.blobs.set(oid, file)
    })
  }

  function entry(path: string, { oid, size }: { oid: string; size: number }): TreeFile {
    const rawPath = Buffer.concat([part.prefix, Buffer.from(`.git/${path}`)])
    return { path: rawPath.toString('utf8'), rawPath, kind: 'file', oid, size }
  }
}

/** Adds files to sorted ones, in the order of readTree. */
export async function mergeFiles(
  sorted: readonly TreeFile[],
  more: readonly TreeFile[],
  pace: Pace,
): Promise<TreeFile[]> {
  const keyed: { key: string; file: TreeFile }[] = []
  await pace.forEach([...sorted, ...more], (file) =>
    keyed.push({ key: file.rawPath.toString('latin1').replaceAll('/', '\0'), file }),
  )
  const result = await pace.sorted(keyed, (a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
  const merged: TreeFile[] = []
  await pace.forEach(result.entries(), ([index, { key, file }]) => {
    // A submodule without files is an empty folder, but not with `.git` in it.
    const isEmpty = !result[index + 1]?.key.startsWith(`${key}\0`)
    if (file.kind !== 'submodule' || isEmpty) merged.push(file)
  })
  return merged
}

/** What a clone has, and that missing objects are at the origin. */
function configOf({ sha, url }: Commit): string {
  const isSha256 = sha.length === 64
  return [
    `[core]\n\trepositoryformatversion = ${isSha256 ? 1 : 0}\n\tfilemode = true\n\tbare = false\n`,
    '\tlogallrefupdates = true\n',
    isSha256 ? '[extensions]\n\tobjectformat = sha256\n' : '',
    `[remote "origin"]\n\turl = "${url.replace(/["\\]/g, '\\$&')}"\n`,
    '\tfetch = +refs/heads/*:refs/remotes/origin/*\n\tpromisor = true\n\tpartialclonefilter = tree:0\n',
    '[submodule]\n\tactive = .\n',
  ].join('')
}
