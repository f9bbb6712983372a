import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { shortName } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { batches } from '../../util/collections/batches.ts'
import { Pace } from '../../util/pace.ts'
import type { CommitHistory } from '../git/commit-history.ts'
import { isReadDamage, readError } from '../git/errors.ts'
import { type Git, GitFailure } from '../git/git.ts'
import { parsePointer } from '../lfs/pointer.ts'
import type { Commit, Context, ContextEntry } from '../source.ts'
import { PackWriter } from './blob-packs.ts'
import { BlobReader } from './blob-reader.ts'
import { attributesMatter, type CheckedOut, CheckoutFilters, type Converted } from './checkout-filters.ts'
import { type ContextPart, ContextTree, type Submodule } from './context-tree.ts'
import { noDockerfile, validDockerfile } from './dockerfile-path.ts'
import { type Dockerignore, parseDockerignore } from './dockerignore.ts'
import { entriesWithout, listEntries } from './entries.ts'
import { type GitFolders, gitFolders, mergeFiles } from './git-folder.ts'
import type { TreeFile } from './git-tree.ts'
import { LfsFiles, type OpenLfs } from './lfs-files.ts'
import { looseBlob } from './loose-object.ts'
import { type ResolvedPath, resolveInTree } from './tree-paths.ts'

export interface OpenOptions {
  git: Git
  commit: Commit
  /** Path of the Dockerfile in the tree. */
  dockerfile: string
  signal: AbortSignal | undefined
  /** Folder for converted files. */
  tempDir: string
  /** Called when git cannot read an object that must be in the mirror. */
  onDamage(gitDir: string): Promise<void>
  /** Fetches the history of a commit, for `.git` folders; null: there are none. */
  history: ((commit: Commit) => Promise<CommitHistory>) | null
  /** Fetches a submodule. */
  submodule(submodule: Submodule): Promise<Commit>
  openLfs: OpenLfs
  /** Receives lines about submodules and Git LFS. */
  log: ((line: string) => void) | undefined
}

const MAX_IGNORE_FILE = 1024 * 1024
const MAX_DOCKERFILE = 1024 * 1024
/** Size limit of a context, in bytes: a few small objects can produce any number of large files. */
const MAX_CONTENT = 64 * 1024 ** 3
/** Number of symlinks that are read concurrently. */
const LINKS_AT_ONCE = 1000
/** Limit of Linux. */
const MAX_LINK_TARGET = 4095

/** Reads the tree of a commit as a build context. The caller closes it. */
export async function openContext(options: OpenOptions): Promise<Context> {
  const { git, commit, signal, tempDir } = options
  const reader = new BlobReader(git, commit.gitDir)
  const folder = join(tempDir, randomUUID())
  const onAbort = () => void reader.close(signal?.reason)
  signal?.addEventListener('abort', onAbort)
  const lfs = new LfsFiles({ ...options, name: shortName(commit) }, reader)
  const close = async () => {
    signal?.removeEventListener('abort', onAbort)
    lfs.close()
    await reader.close()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    return { ...(await new Opening(options, reader, lfs, folder).context()), close }
  } catch (error) {
    await close()
    throw error
  }
}

/** Opens the context of a commit. */
class Opening {
  readonly #options: OpenOptions
  readonly #reader: BlobReader
  readonly #lfs: LfsFiles
  /** For files that are not as in git; may not exist. */
  readonly #folder: string
  readonly #name: string
  readonly #pace: Pace
  #files: readonly TreeFile[] = []
  #byPath: ReadonlyMap<string, TreeFile> = new Map()

  constructor(options: OpenOptions, reader: BlobReader, lfs: LfsFiles, folder: string) {
    this.#options = options
    this.#reader = reader
    this.#lfs = lfs
    this.#folder = folder
    this.#name = shortName(options.commit)
    this.#pace = new Pace(options.signal)
  }

  async context(): Promise<Omit<Context, 'close'>> {
    const pace = this.#pace
    const tree = await ContextTree.of(this.#options.commit, { ...this.#options, pace })
    await this.#take(tree)
    if (await this.#needsSubmodules()) await this.#expand(tree, () => true)
    const { dockerfile, file, links } = await this.#findDockerfile()
    const own = await this.#resolve(`${dockerfile}.dockerignore`)
    const root = await this.#resolve('.dockerignore')
    const ignore = await this.#readIgnore(dockerfile, own, root)
    if (tree.hasSubmodules) await this.#expand(tree, (path) => !ignore?.excludesAll(path))

    const files = this.#files
    const listed = await listEntries(files, ignore, pace)
    const dockerfileFiles = new Set<TreeFile | null>([file, ...links])
    const ignoreFiles = new Set([own.file, ...own.links, root.file, ...root.links])
    // BuildKit reads `dockerfile` if it cannot read `Dockerfile`: it gets neither that was not read here.
    const isNeeded = (one: TreeFile) =>
      dockerfileFiles.has(one) || (ignoreFiles.has(one) && !/(^|\/)dockerfile$/i.test(one.path))
    const needed = await listEntries(await pace.filter(files, isNeeded), undefined, pace)
    await this.#rejectHuge(listed.files)
    const wanted = new Set<TreeFile>()
    await pace.forEach(listed.files, (one) => wanted.add(one))
    for (const one of needed.files) wanted.add(one)
    await pace.rest()
    const all = [...wanted]
    await pace.rest()
    const converted = await this.#applyAttributes(tree.parts, wanted)
    if (converted.size > 0) await this.#rejectHuge(listed.files, converted)
    this.#rejectLongDockerfile(dockerfile, converted.get(file) ?? file)
    const targets = await this.#readLinks(all)
    const { history } = this.#options
    const options = { ...this.#options, folder: this.#folder, pace, ignore, converted }
    const folders = history && (await gitFolders(tree, listed.files, { ...options, history }))
    const kept = folders ? await listEntries(mergeFiles(files, folders.files), ignore, pace) : listed
    const entries = await kept.entries(converted, targets)
    const dockerfileEntries = await needed.entries(converted, targets)
    return {
      dockerfile,
      // Each entry of a file has the same object as its path.
      dockerfileEntry: dockerfileEntries.find(({ rawPath }) => rawPath === file.rawPath) as ContextEntry,
      dockerfileEntries,
      entries,
      entriesWithout: (patterns, until) => entriesWithout(entries, patterns, ignore, until),
      read: await this.#readFunction(converted, tree.parts, folders),
    }
  }

  /** Adds the submodules that are wanted, by their paths. */
  async #expand(tree: ContextTree, wants: (path: string) => boolean): Promise<void> {
    await tree.expand(wants)
    await this.#take(tree)
    if (tree.parts.length > 1) await this.#reader.add(tree.parts.map(({ commit }) => commit.gitDir))
  }

  async #take(tree: ContextTree): Promise<void> {
    this.#files = await tree.files()
    const byPath = new Map<string, TreeFile>()
    await this.#pace.forEach(this.#files, (file) => byPath.set(file.path, file))
    this.#byPath = byPath
  }

  /** Whether a file that says what the context is, is in a submodule itself. */
  async #needsSubmodules(): Promise<boolean> {
    const path = validDockerfile(this.#options.dockerfile)
    const paths = [path, 'dockerfile', `${path}.dockerignore`, '.dockerignore']
    const found = await Promise.all(paths.map((one) => this.#resolve(one)))
    return found.some(({ inSubmodule }) => inSubmodule)
  }

  /** The Dockerfile's path, and where it leads. Like Docker, falls back to `dockerfile` if no other path was configured. */
  async #findDockerfile(): Promise<{ dockerfile: string; file: TreeFile; links: TreeFile[] }> {
    const path = validDockerfile(this.#options.dockerfile)
    const { file, links } = await this.#resolve(path)
    if (file && file.kind !== 'submodule') return { dockerfile: path, file, links }
    if (path === 'Dockerfile') {
      const lower = await this.#resolve('dockerfile')
      if (lower.file && lower.file.kind !== 'submodule') {
        // What is there, even if it cannot be read, keeps its name, which is also that of its ignore file.
        return { dockerfile: this.#exists(path) ? path : 'dockerfile', file: lower.file, links: lower.links }
      }
    }
    throw noDockerfile(path, this.#name, links.length > 0)
  }

  #exists(path: string): boolean {
    return this.#byPath.has(path) || this.#files.some((file) => file.path.startsWith(`${path}/`))
  }

  #resolve(path: string): Promise<ResolvedPath> {
    return resolveInTree(this.#byPath, path, async (link) => (await this.#linkTarget(link)).toString('utf8'))
  }

  /**
   * The file next to the Dockerfile takes precedence. Only for the frontend in BuildKit, even if it is empty: others then
   * read that in the root, and say what it excludes (see entriesWithout).
   */
  async #readIgnore(
    dockerfile: string,
    own: ResolvedPath,
    root: ResolvedPath,
  ): Promise<Dockerignore | undefined> {
    const [name, file] = own.file ? [`${dockerfile}.dockerignore`, own.file] : ['.dockerignore', root.file]
    if (!file || file.kind === 'submodule') return undefined
    if (file.size > MAX_IGNORE_FILE) {
      throw new ConveyorError('build_failed', `${name} in ${this.#name} is larger than 1 MiB`)
    }
    const content = await this.#reader.readSmall(file.oid, file.size, this.#options.signal)
    if (parsePointer(content)) {
      // Which attributes apply to it is known only later; nobody means to store it there.
      throw new ConveyorError('build_failed', `${name} in ${this.#name} is stored in Git LFS`, {
        hint: `Take it out with git lfs untrack, and commit ${name} again`,
      })
    }
    return parseDockerignore(content.toString('utf8'), `${name} in ${this.#name}`, this.#pace)
  }

  #rejectLongDockerfile(path: string, { size }: { size: number }): void {
    if (size <= MAX_DOCKERFILE) return
    throw new ConveyorError('build_failed', `${path} in ${this.#name} is larger than 1 MiB`, {
      hint: 'Move long parts into separate files, and COPY them',
    })
  }

  async #rejectHuge(
    files: readonly TreeFile[],
    converted?: ReadonlyMap<TreeFile, { size: number }>,
  ): Promise<void> {
    let bytes = 0
    await this.#pace.forEach(files, (file) => {
      bytes += (converted?.get(file) ?? file).size
    })
    if (bytes <= MAX_CONTENT) return
    const gib = (size: number) => Math.ceil(size / 1024 ** 3)
    throw new ConveyorError(
      'build_failed',
      `the build context of ${this.#name} is ${gib(bytes)} GiB; the limit is ${gib(MAX_CONTENT)} GiB`,
      { hint: 'Exclude files that the image does not need in .dockerignore' },
    )
  }

  async #applyAttributes(
    parts: readonly ContextPart[],
    wanted: ReadonlySet<TreeFile>,
  ): Promise<ReadonlyMap<TreeFile, CheckedOut | Converted>> {
    const { git, signal } = this.#options
    const all = new Map<TreeFile, CheckedOut | Converted>()
    for (const [index, part] of parts.entries()) {
      const { commit, prefix, files } = part
      if (!(await attributesMatter(files, this.#reader, signal))) continue
      const folder = join(this.#folder, String(index))
      const filters = new CheckoutFilters(git, commit.gitDir, folder, prefix, signal)
      const ours = await this.#pace.filter(files, (file) => wanted.has(file))
      const { convert, lfs } = await filters.attributes(commit.tree, ours)
      const objects = await this.#lfs.find(lfs, part, filters)
      await this.#pace.forEach(objects, ([file, object]) => all.set(file, object))
      // git converts a pointer, if at all, before its object replaces it.
      const others = await this.#pace.filter(convert, (file) => !objects.has(file))
      if (others.length === 0) continue
      await this.#pace.forEach(await filters.convert(others), ([file, one]) => all.set(file, one))
    }
    return all
  }

  /** Symlinks with the same target are read only once. */
  async #readLinks(files: readonly TreeFile[]): Promise<ReadonlyMap<TreeFile, Buffer>> {
    const links = files.filter(({ kind }) => kind === 'symlink')
    const unique = new Map<string, TreeFile>()
    await this.#pace.forEach(links, (link) => unique.set(link.oid, link))
    const targets = new Map<string, Buffer>()
    for (const some of batches([...unique.values()], LINKS_AT_ONCE)) {
      await Promise.all(
        some.map(async (link) => {
          targets.set(link.oid, await this.#linkTarget(link))
        }),
      )
    }
    const found = new Map<TreeFile, Buffer>()
    await this.#pace.forEach(links, (link) => found.set(link, targets.get(link.oid) ?? Buffer.alloc(0)))
    return found
  }

  async #linkTarget(link: TreeFile): Promise<Buffer> {
    if (link.size > MAX_LINK_TARGET) {
      throw new ConveyorError(
        'build_failed',
        `the target of the symlink ${link.path} in ${this.#name} is too long`,
      )
    }
    return this.#reader.readSmall(link.oid, link.size, this.#options.signal)
  }

  async #readFunction(
    converted: ReadonlyMap<TreeFile, CheckedOut | Converted>,
    parts: readonly ContextPart[],
    folders: GitFolders | null,
  ): Promise<Context['read']> {
    const spools = new Map<string, Buffer | string | null>()
    await this.#pace.forEach(converted.values(), (one) =>
      spools.set(one.contentId, 'spool' in one ? one.spool : null),
    )
    const reader = this.#reader
    const lfs = this.#lfs
    const { commit, onDamage } = this.#options
    const whole = (blob: TreeFile) => reader.readSmall(blob.oid, blob.size)
    const packs = new PackWriter(join(this.#folder, 'packs'), whole, new Pace())
    return async function* read(entry: ContextEntry, signal?: AbortSignal) {
      if (entry.kind !== 'file') throw new TypeError(`${entry.path} is a ${entry.kind} and has no content`)
      const spool = spools.get(entry.contentId)
      if (spool) {
        yield* createReadStream(spool, { signal })
        return
      }
      if (spool === null) {
        yield* lfs.read(entry, signal)
        return
      }
      const own = folders?.contents.get(entry.contentId)
      try {
        if (!own) yield* reader.read(entry.contentId, entry.size, signal)
        else if ('spool' in own) yield* createReadStream(own.spool, { signal })
        else if ('blob' in own) {
          yield* looseBlob(own.blob.size, reader.read(own.blob.oid, own.blob.size, signal))
        } else yield* createReadStream(`${await packs.pathOf(own.pack)}.${own.extension}`, { signal })
      } catch (error) {
        if (!(error instanceof GitFailure)) throw error
        const whose = parts.find(({ commit: { gitDir }, files }) =>
          own && 'gitDir' in own ? gitDir === own.gitDir : files.some(({ oid }) => oid === entry.contentId),
        )
        const { gitDir, repository } = whose?.commit ?? commit
        if (isReadDamage(error)) await onDamage(gitDir)
        throw readError(error, repository)
      }
    }
  }
}
