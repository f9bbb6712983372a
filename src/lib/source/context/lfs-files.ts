import { createHash } from 'node:crypto'
import { ConveyorError } from '../../core/errors.ts'
import { batches } from '../../util/collections/batches.ts'
import { Pace } from '../../util/pace.ts'
import { type Git, GitFailure } from '../git/git.ts'
import { ignoreFile, type LfsConfig, MAX_LFSCONFIG, readLfsConfig } from '../lfs/config.ts'
import type { LfsReader } from '../lfs/lfs.ts'
import type { LfsRequested } from '../lfs/open.ts'
import { type LfsObject, type LfsPointer, POINTER_LIMIT, parsePointer } from '../lfs/pointer.ts'
import type { ContextEntry } from '../source.ts'
import type { BlobReader } from './blob-reader.ts'
import type { CheckedOut, CheckoutFilters } from './checkout-filters.ts'
import type { ContextPart } from './context-tree.ts'
import type { TreeFile } from './git-tree.ts'

/** Opens objects of a commit in Git LFS; as GitLfs does. */
export type OpenLfs = (requested: Omit<LfsRequested, 'remote'>) => LfsReader

export interface LfsFilesOptions {
  git: Git
  /** `acme/app@0123456`, for errors. */
  name: string
  signal: AbortSignal | undefined
  openLfs: OpenLfs
  log: ((line: string) => void) | undefined
}

/** Number of pointers that are read concurrently. */
const POINTERS_AT_ONCE = 1000
const EMPTY = createHash('sha256').digest('hex')
const NO_CONFIG: LfsConfig = { url: null, include: [], exclude: [] }

/** The files of a context that are stored in Git LFS, as `git lfs` checks them out. */
export class LfsFiles {
  readonly #options: LfsFilesOptions
  readonly #reader: BlobReader
  readonly #pace: Pace
  /** What reads them, by content id. */
  readonly #found = new Map<string, { object: LfsObject; lfs: LfsReader }>()
  readonly #opened: LfsReader[] = []

  constructor(options: LfsFilesOptions, reader: BlobReader) {
    this.#options = options
    this.#reader = reader
    this.#pace = new Pace(options.signal)
  }

  /**
   * Those of the files that are pointers, and what replaces them. Downloads nothing.
   * @param files of a part of the context, which attributes select
   */
  async find(
    files: readonly TreeFile[],
    part: ContextPart,
    filters: CheckoutFilters,
  ): Promise<Map<TreeFile, CheckedOut>> {
    const pointers = await this.#pointers(files)
    if (pointers.size === 0) return new Map()
    const config = await this.#config(part)
    const wanted = await wantedBy(config, [...pointers.keys()], filters, this.#pace)
    const objects = new Map<string, LfsObject>()
    const found = new Map<TreeFile, CheckedOut>()
    await this.#pace.forEach(wanted, (file) => {
      const { extensions, ...object } = pointers.get(file) as LfsPointer
      if (extensions[0] !== undefined) throw this.#unsupported(file, extensions[0])
      const contentId = `sha256:${object.size === 0 ? EMPTY : object.oid}`
      objects.set(contentId, object)
      found.set(file, { size: object.size, contentId })
    })
    if (objects.size === 0) return found
    const { name, openLfs, log } = this.#options
    const { commit } = part
    const lfs = openLfs({ name, commit, objects: [...objects.values()], configured: config.url, log })
    this.#opened.push(lfs)
    await this.#pace.forEach(objects, ([contentId, object]) => this.#found.set(contentId, { object, lfs }))
    return found
  }

  /** The content of a file that `find` found. @throws ConveyorError as LfsReader */
  async *read({ contentId, path }: ContextEntry, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const found = this.#found.get(contentId)
    if (!found) throw new TypeError(`${path} is not in Git LFS`)
    yield* found.lfs.read(found.object, path, signal)
  }

  close(): void {
    for (const lfs of this.#opened) lfs.close()
  }

  async #pointers(files: readonly TreeFile[]): Promise<Map<TreeFile, LfsPointer>> {
    const small = files.filter(({ size }) => size > 0 && size < POINTER_LIMIT)
    const found = new Map<TreeFile, LfsPointer>()
    for (const some of batches(small, POINTERS_AT_ONCE)) {
      await Promise.all(
        some.map(async (file) => {
          const pointer = parsePointer(
            await this.#reader.readSmall(file.oid, file.size, this.#options.signal),
          )
          if (pointer) found.set(file, pointer)
        }),
      )
    }
    return found
  }

  async #config({ commit, prefix, files }: ContextPart): Promise<LfsConfig> {
    const { git, name, signal } = this.#options
    const path = `${prefix.toString('utf8')}.lfsconfig`
    const file = files.find((one) => one.path === path)
    if (file?.kind !== 'file' && file?.kind !== 'executable') return NO_CONFIG
    const refuse = (why: string, cause?: unknown) =>
      new ConveyorError('build_failed', `${path} in ${name} ${why}`, {
        hint: 'Check it with git lfs env',
        cause,
      })
    if (file.size > MAX_LFSCONFIG) throw refuse('is larger than 64 KiB')
    try {
      return await readLfsConfig(git, file.oid, { gitDir: commit.gitDir, signal })
    } catch (error) {
      throw error instanceof GitFailure ? refuse('cannot be read by git', error) : error
    }
  }

  #unsupported({ path }: TreeFile, extension: string): ConveyorError {
    return new ConveyorError(
      'build_failed',
      `${path} in ${this.#options.name} was stored by ${extension}, an extension of Git LFS`,
      { hint: 'Extensions run programs of their own, which builds do not: store the file without it' },
    )
  }
}

/** The files that `.lfsconfig` does not leave out. */
async function wantedBy(
  { include, exclude }: LfsConfig,
  files: TreeFile[],
  filters: CheckoutFilters,
  pace: Pace,
): Promise<TreeFile[]> {
  const matching = (patterns: string[]) => filters.matching(files, ignoreFile(patterns))
  const included = include.length > 0 ? await matching(include) : null
  const excluded = exclude.length > 0 ? await matching(exclude) : null
  return pace.filter(files, (file) => included?.has(file) !== false && !excluded?.has(file))
}
