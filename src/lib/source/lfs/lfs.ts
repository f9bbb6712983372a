import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { ConveyorError } from '../../core/errors.ts'
import { KeyedMutex } from '../../util/locks/keyed-mutex.ts'
import { Semaphore } from '../../util/locks/semaphore.ts'
import { LfsAddresses } from './addresses.ts'
import { type LfsAccess, LfsServer } from './batch.ts'
import type { LfsCache } from './cache.ts'
import { copy, download, verified, WrongContent } from './download.ts'
import type { LfsHttp } from './http.ts'
import type { LfsObject } from './pointer.ts'

/** As git-lfs. */
const DOWNLOADS_AT_ONCE = 8
const BACKOFF_MS = [500, 2000, 5000]

/** Where the objects of a repository are: on a server, or in the folder of the repository itself. */
export type LfsOrigin = { host: string; access: LfsAccess } | { folder: string }

/** The LFS objects of a tree. */
export interface LfsTree {
  /** `acme/app@0123456`, for errors. */
  name: string
  /** Address of its repository, which identifies it in the cache. */
  remote: string
  origin: LfsOrigin
  /** All of them, so that few requests are needed. */
  objects: LfsObject[]
  log: ((line: string) => void) | undefined
}

/** Reads the objects of a tree. */
export interface LfsReader {
  /**
   * The content of an object, in pieces: from the cache, or downloaded to it first. Its hash has been checked when the
   * last one comes.
   * @param path of the file, for errors
   * @throws ConveyorError `build_failed` if the server does not have it; `unauthorized`, `not_found`, `unavailable`
   */
  read(object: LfsObject, path: string, signal?: AbortSignal): AsyncIterable<Uint8Array>
  /** Aborts its downloads. */
  close(): void
}

export interface LfsOptions {
  cache: LfsCache
  http: LfsHttp
  /** Waits before retries, in milliseconds. */
  backoffMs?: readonly number[] | undefined
}

/** The LFS objects that the builds of a process read. */
export class Lfs {
  readonly #options: LfsOptions
  readonly #downloads = new Semaphore(DOWNLOADS_AT_ONCE)
  readonly #mutex = new KeyedMutex()

  constructor(options: LfsOptions) {
    this.#options = options
  }

  open(tree: LfsTree): LfsReader {
    const { cache } = this.#options
    const closed = new AbortController()
    const repository = createHash('sha256').update(tree.remote.toLowerCase()).digest('hex').slice(0, 32)
    const pathOf = (object: LfsObject) => cache.pathOf(repository, object)
    const write = this.#writer(tree, (object) => cache.has(pathOf(object)), closed.signal)

    async function* read(this: Lfs, object: LfsObject, path: string, signal?: AbortSignal) {
      if (object.size === 0) return
      const ending = signal ? AbortSignal.any([signal, closed.signal]) : closed.signal
      const stored = pathOf(object)
      const open = () => cache.open(stored, object)
      const add = () => cache.add(stored, object, (file) => write(file, object, path, ending))
      // Several files may have the same content.
      const file =
        (await open()) ?? (await this.#mutex.run(stored, async () => (await open()) ?? add(), ending))
      try {
        yield* verified(file, object)
      } catch (error) {
        if (!(error instanceof WrongContent)) throw error
        await cache.remove(stored)
        const why = `the cached copy of ${path} in ${tree.name} from Git LFS is damaged: ${error.message}`
        throw new ConveyorError('unavailable', why, {
          hint: 'Retry: it will be downloaded again',
          cause: error,
        })
      } finally {
        await file.close()
      }
    }
    return {
      read: read.bind(this),
      close: () => closed.abort(new Error('the context was closed')),
    }
  }

  /** Returns what writes an object to a file. */
  #writer(
    { name, origin, ...tree }: LfsTree,
    has: (object: LfsObject) => Promise<boolean>,
    closed: AbortSignal,
  ): (file: FileHandle, object: LfsObject, path: string, signal: AbortSignal) => Promise<void> {
    const aboutFile = (path: string) => `${path} in ${name}`
    if ('folder' in origin) {
      return (file, object, path) => copy(file, object, origin.folder, aboutFile(path))
    }
    const { http, backoffMs = BACKOFF_MS } = this.#options
    const { host } = origin
    const server = new LfsServer({ http, backoffMs, name, ...origin })
    const addresses = new LfsAddresses(server, { ...tree, host }, has, closed)
    return async (file, object, path, signal) => {
      await this.#downloads.acquire(signal)
      try {
        const about = aboutFile(path)
        await download(file, object, { http, addresses, host, about, backoffMs, signal })
      } finally {
        this.#downloads.release()
      }
    }
  }

  /** Resolves when the cache is within its limit, and closes the connections. */
  async close(): Promise<void> {
    await this.#options.cache.sweep()
    await this.#options.http.close()
  }
}
