import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { LfsObject } from './pointer.ts'

/** Files being written by a process that was killed are removed after this time. */
const TEMPORARY_KEPT_MS = 24 * 3600 * 1000
/** A part of the limit: after so many new bytes, the oldest files are removed. */
const SLACK = 0.1

/**
 * LFS objects on disk, by repository: whoever can push to one repository must not get at objects of another one by
 * their ids. Processes may share the folder: files appear complete, and one that is open stays readable when it is
 * removed.
 */
export class LfsCache {
  readonly #dir: string
  readonly #limit: number
  /** Bytes since the last `sweep`. */
  #added = Number.POSITIVE_INFINITY
  #sweeping: Promise<void> | undefined

  /** @param limit in bytes; what is in use may exceed it for a while */
  constructor(dir: string, limit: number) {
    this.#dir = dir
    this.#limit = limit
  }

  /** @param repository identifies it, in hex */
  pathOf(repository: string, { oid }: LfsObject): string {
    return join(this.#dir, repository, oid.slice(0, 2), oid)
  }

  /** Opens an object, which the caller closes; null if it is not there. */
  async open(path: string, { size }: LfsObject): Promise<FileHandle | null> {
    const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null
      throw error
    })
    if (file === null) return null
    if ((await file.stat()).size === size) {
      const now = new Date()
      await file.utimes(now, now) // Time of the last use, for `sweep`.
      return file
    }
    await file.close()
    await this.remove(path)
    return null
  }

  async has(path: string): Promise<boolean> {
    return stat(path).then(
      () => true,
      () => false,
    )
  }

  async remove(path: string): Promise<void> {
    await rm(path, { force: true })
  }

  /**
   * Adds an object that `write` writes, completely or not at all, and opens it.
   * @throws what `write` throws
   */
  async add(
    path: string,
    object: LfsObject,
    write: (file: FileHandle) => Promise<void>,
  ): Promise<FileHandle> {
    const temporary = join(this.#dir, '.tmp', randomUUID())
    await mkdir(dirname(temporary), { recursive: true, mode: 0o700 })
    const file = await open(temporary, 'wx+', 0o600)
    try {
      await write(file)
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      await rename(temporary, path)
    } catch (error) {
      await file.close()
      await rm(temporary, { force: true })
      throw error
    }
    this.#added += object.size
    if (this.#added > this.#limit * SLACK) void this.sweep()
    return file
  }

  /** Removes the least recently used objects above the limit. Errors are left to the next one. */
  sweep(): Promise<void> {
    this.#sweeping ??= this.#sweep()
      .catch(() => {})
      .finally(() => {
        this.#sweeping = undefined
      })
    return this.#sweeping
  }

  async #sweep(): Promise<void> {
    this.#added = 0
    const files: { path: string; size: number; at: number }[] = []
    for (const entry of await readdir(this.#dir, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      const path = join(entry.parentPath, entry.name)
      const found = await stat(path).catch(() => null)
      if (found === null) continue
      if (entry.parentPath !== join(this.#dir, '.tmp'))
        files.push({ path, size: found.size, at: found.mtimeMs })
      else if (Date.now() - found.mtimeMs > TEMPORARY_KEPT_MS) await this.remove(path)
    }
    let total = files.reduce((sum, { size }) => sum + size, 0)
    for (const { path, size } of files.sort((a, b) => a.at - b.at)) {
      if (total <= this.#limit) return
      await this.remove(path)
      total -= size
    }
  }
}
