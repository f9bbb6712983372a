import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { copyFile, link, mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { mapConcurrently } from '../../util/collections/map-concurrently.ts'
import type { Pace } from '../../util/pace.ts'
import type { CommitHistory } from '../git/commit-history.ts'
import { alternateOf, readLines, writePack } from '../git/commit-packs.ts'
import type { Git } from '../git/git.ts'
import type { Commit } from '../source.ts'
import { type BlobPack, packBlobs } from './blob-packs.ts'
import type { CheckedOut, Converted } from './checkout-filters.ts'
import type { ContextPart, ContextTree } from './context-tree.ts'
import type { Dockerignore } from './dockerignore.ts'
import { pathList, type TreeFile } from './git-tree.ts'
import { looseSize } from './loose-object.ts'

/** What a context has in its `.git` folders. */
export interface GitFolders {
  /** The files, sorted; their oids are content ids. */
  files: TreeFile[]
  /** Where the content is, by content id. */
  contents: Map<string, GitContent>
}

/** A file; a blob in git's loose format; or blobs in a pack, or its index. */
type GitContent =
  | { spool: string }
  | { gitDir: string; blob: TreeFile }
  | { gitDir: string; pack: BlobPack; extension: 'pack' | 'idx' }

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

/** Folders of submodules that are made concurrently. */
const AT_ONCE = 4
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
  const all: GitFolders = { files: [], contents: new Map() }
  const there = new Set<TreeFile>()
  await options.pace.forEach(listed, (file) => there.add(file))
  const isThere = (file: TreeFile) => there.has(file) || tree.isExpanded(file)
  const isLfs = (file: TreeFile) => {
    const found = converted.get(file)
    return found !== undefined && !('spool' in found)
  }
  await mapConcurrently([...tree.parts.entries()], AT_ONCE, async ([index, part]) => {
    const path = `${part.prefix.toString('utf8')}.git`
    if (ignore?.excludesAll(path)) {
      log?.(`${path} is excluded by .dockerignore`)
      return
    }
    const folder = join(options.folder, `git${index}`)
    await addGitFolder(part, { ...options, folder, isThere, isLfs }, all)
  })
  const keyed = all.files.map((file) => ({ key: keyOf(file), file }))
  const sorted = await options.pace.sorted(keyed, (one, two) => compare(one.key, two.key))
  return { ...all, files: sorted.map(({ file }) => file) }
}

/**
 * Makes the `.git` folder of a repository: as after a clone, but the commits before this one have no files (it is a
 * partial clone, `--filter=tree:0`), and there are only the tags that `git describe` can find. The bytes depend on the
 * commit, those tags, and the files that .dockerignore excludes. Submodules have their own folder, not one in the parent's:
 * so each is a repository wherever it is copied to.
 */
async function addGitFolder(part: ContextPart, options: PartOptions, all: GitFolders): Promise<void> {
  const { git, folder, pace, signal } = options
  const { commit } = part
  const files = join(folder, 'git')
  const workTree = join(folder, 'empty')
  const packs = join(files, 'objects/pack')
  await mkdir(packs, { recursive: true })
  await mkdir(workTree, { recursive: true })
  const made = await Promise.allSettled([addObjects(), writeIndex()])
  for (const one of made) if (one.status === 'rejected') throw one.reason
  await writeFile(join(files, 'HEAD'), `${commit.sha}\n`)
  await writeFile(join(files, 'config'), configOf(commit))
  await collect()
  await addBlobs()

  async function addObjects(): Promise<void> {
    const history = await options.history(commit)
    const { gitDir, base, recent, tagObjects, tags } = history
    const local = { git, gitDir, signal }
    const roots = [commit.tree, ...history.parentTrees]
    const list = ['rev-list', '--objects', '--no-object-names', '--filter=blob:none', ...roots]
    const trees = await readLines(local, list, alternateOf(commit.gitDir))
    const oids = new Set(recent)
    for (const oid of tagObjects) oids.add(oid)
    for (const oid of await pace.sorted(trees, compare)) oids.add(oid)
    await writePack(local, [...oids], packs, commit.gitDir)
    if (base) {
      for (const extension of ['pack', 'idx']) {
        await linked(`${base.path}.${extension}`, join(packs, `${basename(base.path)}.${extension}`))
      }
    }
    const refs = tags.map(({ ref, oid }) => `${oid} ${ref}\n`).join('')
    if (refs !== '') await writeFile(join(files, 'packed-refs'), `# pack-refs with: sorted \n${refs}`)
  }

  /** An index without times: git compares the files themselves once. Files that are not there are not expected either. */
  async function writeIndex(): Promise<void> {
    const env = { GIT_INDEX_FILE: join(files, 'index'), GIT_WORK_TREE: workTree }
    const how = { gitDir: commit.gitDir, cwd: workTree, env, config: INDEX_CONFIG, signal }
    await git.run(['read-tree', commit.tree], how)
    const mark = async (flag: string, marked: (file: TreeFile) => boolean) => {
      const found = await pace.filter(part.files, marked)
      if (found.length === 0) return
      const input = await pathList(found, part.prefix.length, pace)
      await git.run(['update-index', flag, '-z', '--stdin'], { ...how, input })
    }
    await mark('--skip-worktree', (file) => !options.isThere(file))
    await mark('--assume-unchanged', options.isLfs)
  }

  async function collect(): Promise<void> {
    const found = await readdir(files, { recursive: true, withFileTypes: true })
    for (const one of found.filter((entry) => entry.isFile())) {
      const spool = join(one.parentPath, one.name)
      const path = spool.slice(files.length + 1)
      const { size } = await stat(spool)
      // Objects of git are there under another id, so these cannot be taken for one. A pack's name is a hash of it.
      const isPack = /\.(pack|idx)$/.test(one.name)
      const oid = isPack ? `git:${one.name}` : `sha256:${await hashOf(spool)}`
      add(path, { oid, size }, { spool })
      if (!one.name.endsWith('.pack')) continue
      // git marks packs as part of a partial clone.
      const marker = path.replace(/pack$/, 'promisor')
      await writeFile(join(files, marker), '')
      const nothing = `sha256:${createHash('sha256').digest('hex')}`
      add(marker, { oid: nothing, size: 0 }, { spool: join(files, marker) })
    }
    all.files.push({ ...entry('refs', { oid: '', size: 0 }), kind: 'directory' })
  }

  async function addBlobs(): Promise<void> {
    const blobs = new Map<string, TreeFile>()
    await pace.forEach(part.files, (file) => {
      if (file.kind !== 'submodule') blobs.set(file.oid, file)
    })
    const { packs, large } = await packBlobs(blobs.values(), pace)
    const { gitDir } = commit
    for (const blob of large) {
      const path = `objects/${blob.oid.slice(0, 2)}/${blob.oid.slice(2)}`
      add(path, { oid: `loose:${blob.oid}`, size: looseSize(blob.size) }, { gitDir, blob })
    }
    for (const pack of packs) {
      const sizes = { pack: pack.packSize, idx: pack.indexSize }
      for (const extension of ['pack', 'idx'] as const) {
        const name = `${pack.name}.${extension}`
        const file = { oid: `blobs:${name}`, size: sizes[extension] }
        add(`objects/pack/${name}`, file, { gitDir, pack, extension })
      }
    }
  }

  function add(path: string, file: { oid: string; size: number }, content: GitContent): void {
    all.files.push(entry(path, file))
    all.contents.set(file.oid, content)
  }

  function entry(path: string, { oid, size }: { oid: string; size: number }): TreeFile {
    const rawPath = Buffer.concat([part.prefix, Buffer.from(`.git/${path}`)])
    return { path: rawPath.toString('utf8'), rawPath, kind: 'file', oid, size }
  }
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}

/** The same file under another name, which stays when the first one is removed. */
async function linked(from: string, to: string): Promise<void> {
  // Not every file system has links.
  await link(from, to).catch(() => copyFile(from, to))
}

/** Sorts as readTree does. */
function keyOf({ rawPath }: TreeFile): string {
  return rawPath.toString('latin1').replaceAll('/', '\0')
}

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

/** Adds a few files to many, both sorted as by readTree. */
export function mergeFiles(sorted: readonly TreeFile[], more: readonly TreeFile[]): TreeFile[] {
  const merged: TreeFile[] = []
  let from = 0
  for (const file of more) {
    const key = keyOf(file)
    let [low, high] = [from, sorted.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (keyOf(sorted[middle] as TreeFile) < key) low = middle + 1
      else high = middle
    }
    for (; from < low; from++) merged.push(sorted[from] as TreeFile)
    // A submodule without files is an empty folder, but not with `.git` in it.
    const last = merged.at(-1)
    if (last?.kind === 'submodule' && key.startsWith(`${keyOf(last)}\0`)) merged.pop()
    merged.push(file)
  }
  for (; from < sorted.length; from++) merged.push(sorted[from] as TreeFile)
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
