import { ConveyorError } from '../../core/errors.ts'
import { mapConcurrently } from '../../util/collections/map-concurrently.ts'
import type { Pace } from '../../util/pace.ts'
import type { Git } from '../git/git.ts'
import type { Commit } from '../source.ts'
import { readTree, rejectLong, TREE_LIMITS, type TreeFile } from './git-tree.ts'
import { type Gitmodules, MAX_GITMODULES, readGitmodules } from './gitmodules.ts'

/** A submodule of a context. */
export interface Submodule {
  /** Its path in the context. */
  path: string
  /** As in `.gitmodules`: it may be relative to that of the parent. */
  url: string
  /** The commit that it is pinned to. */
  sha: string
  parent: Commit
}

/** One of the repositories of a context. */
export interface ContextPart {
  commit: Commit
  /** Where its files are in the context: `vendor/lib/`; empty for the commit that is built. */
  prefix: Buffer
  /** Its files and submodules, sorted as by readTree, with their paths in the context. */
  files: TreeFile[]
}

interface Options {
  git: Git
  signal: AbortSignal | undefined
  pace: Pace
  /** Fetches a submodule. */
  submodule: (submodule: Submodule) => Promise<Commit>
  log: ((line: string) => void) | undefined
}

/** Of a context; projects with a hundred exist. */
const MOST_SUBMODULES = 500
const DEEPEST = 16
const AT_ONCE = 4

/** The files of a commit, and those of its submodules, in their place. */
export class ContextTree {
  readonly #options: Options
  /** By the entries that they replace. */
  readonly #parts = new Map<TreeFile, ContextPart>()
  readonly root: ContextPart
  /** Entries that cannot be, or need not be expanded. */
  readonly #done = new Set<TreeFile>()
  #count = { files: 0, pathBytes: 0 }

  private constructor(options: Options, root: ContextPart) {
    this.#options = options
    this.root = root
  }

  /** Reads the tree of a commit. @throws ConveyorError `build_failed` as readTree */
  static async of(commit: Commit, options: Options): Promise<ContextTree> {
    const tree = new ContextTree(options, { commit, prefix: Buffer.alloc(0), files: [] })
    await tree.#read(tree.root)
    return tree
  }

  /** The repositories that have been read so far, the commit's first. */
  get parts(): ContextPart[] {
    return [this.root, ...this.#parts.values()]
  }

  /** Whether the files of a submodule are among those of the tree. */
  isExpanded(file: TreeFile): boolean {
    return this.#parts.has(file)
  }

  get hasSubmodules(): boolean {
    return this.root.files.some(({ kind }) => kind === 'submodule')
  }

  /**
   * All files, sorted. A submodule that is not expanded, or has no files, is an entry of its own: a checkout has an empty
   * folder there.
   */
  async files(): Promise<TreeFile[]> {
    if (this.#parts.size === 0) return this.root.files
    const all: TreeFile[] = []
    const add = async (part: ContextPart) => {
      for (const file of part.files) {
        const inside = this.#parts.get(file)
        if (inside && inside.files.length > 0) await add(inside)
        else all.push(file)
        if (this.#options.pace.isDue) await this.#options.pace.rest()
      }
    }
    await add(this.root)
    return all
  }

  /**
   * Fetches and reads submodules, and those in them.
   * @param wants whether the submodule with this path is needed
   * @throws ConveyorError that names the path
   */
  async expand(wants: (path: string) => boolean): Promise<void> {
    let level = this.parts
    for (let depth = 1; level.length > 0; depth++) {
      const next: ContextPart[] = []
      for (const part of level) next.push(...(await this.#expandPart(part, depth, wants)))
      level = next
    }
  }

  async #expandPart(
    part: ContextPart,
    depth: number,
    wants: (path: string) => boolean,
  ): Promise<ContextPart[]> {
    const isNew = (file: TreeFile) => !this.#parts.has(file) && !this.#done.has(file)
    const wanted = part.files.filter((file) => file.kind === 'submodule' && isNew(file) && wants(file.path))
    if (wanted.length === 0) return []
    if (depth > DEEPEST) throw tooMany(wanted, `submodules nested more than ${DEEPEST} deep`)
    const gitmodules = await this.#gitmodules(part)
    const fetched = wanted.flatMap((file) => this.#submodule(part, file, gitmodules))
    if (this.#parts.size + fetched.length > MOST_SUBMODULES) {
      throw tooMany(wanted, `more than ${MOST_SUBMODULES} submodules`)
    }
    const commits = await mapConcurrently(fetched, AT_ONCE, ({ one }) => this.#options.submodule(one))
    const found: ContextPart[] = []
    for (const [index, { file }] of fetched.entries()) {
      const prefix = Buffer.concat([file.rawPath, Buffer.from('/')])
      const inside = { commit: commits[index] as Commit, prefix, files: [] }
      await this.#read(inside)
      this.#parts.set(file, inside)
      found.push(inside)
    }
    return found
  }

  /** Nothing for a submodule that git's clone leaves empty, too. */
  #submodule(
    part: ContextPart,
    file: TreeFile,
    gitmodules: Gitmodules,
  ): { file: TreeFile; one: Submodule }[] {
    const path = file.rawPath.toString('latin1', part.prefix.length)
    const entry = gitmodules.get(path)
    if (entry?.wanted && entry.url !== null) {
      return [{ file, one: { path: file.path, url: entry.url, sha: file.oid, parent: part.commit } }]
    }
    if (entry?.wanted) {
      throw new ConveyorError('build_failed', `.gitmodules has no URL for the submodule ${file.path}`, {
        hint: 'Add it with `git submodule set-url`, and push .gitmodules, or exclude the path in .dockerignore',
      })
    }
    const why = entry ? '.gitmodules says update = none' : 'it is not in .gitmodules'
    this.#options.log?.(`the folder of the submodule ${file.path} is empty: ${why}`)
    this.#done.add(file)
    return []
  }

  async #gitmodules({ commit, files, prefix }: ContextPart): Promise<Gitmodules> {
    const path = `${prefix.toString('utf8')}.gitmodules`
    const file = files.find((one) => one.path === path)
    if (!file) return new Map()
    // A symlink could lead to a file that is not part of the repository, so git does not read it either.
    if (file.kind !== 'file' && file.kind !== 'executable') {
      throw new ConveyorError('build_failed', `${path} is a ${file.kind}, not a file`)
    }
    if (file.size > MAX_GITMODULES) throw new ConveyorError('build_failed', `${path} is larger than 1 MiB`)
    return readGitmodules(this.#options.git, commit.gitDir, file.oid, path, this.#options)
  }

  async #read(part: ContextPart): Promise<void> {
    const { git, pace, signal } = this.#options
    const { commit, prefix } = part
    const limits = {
      ...TREE_LIMITS,
      files: TREE_LIMITS.files - this.#count.files,
      pathBytes: TREE_LIMITS.pathBytes - this.#count.pathBytes,
    }
    const files = await readTree(git, commit.gitDir, commit.tree, pace, { limits, signal })
    this.#count.files += files.length
    const text = prefix.toString('utf8')
    await pace.forEach(files, (file) => {
      this.#count.pathBytes += prefix.length + file.rawPath.length
      part.files.push(prefix.length === 0 ? file : prefixed(file, prefix, text))
    })
  }
}

function prefixed(file: TreeFile, prefix: Buffer, text: string): TreeFile {
  const rawPath = Buffer.concat([prefix, file.rawPath])
  const path = `${text}${file.path}`
  rejectLong(path, rawPath.length)
  return { ...file, path, rawPath }
}

function tooMany(files: readonly TreeFile[], what: string): ConveyorError {
  return new ConveyorError(
    'build_failed',
    `the commit has ${what}, which exceeds the limit: ${files[0]?.path}`,
    {
      hint: 'Exclude those that the image does not need in .dockerignore',
    },
  )
}
