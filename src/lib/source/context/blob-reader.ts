import { join } from 'node:path'
import { Semaphore } from '../../util/locks/semaphore.ts'
import { type Git, GitFailure, type GitProcess } from '../git/git.ts'

/** Blobs up to this size go through a shared `git cat-file --batch`, whole; larger ones are streamed. */
const SMALL = 512 * 1024
/** Number of processes for small blobs; reading is mostly decompression, so two use two cores. */
const BATCHES = 2
/** Bytes of small blobs that are requested ahead, per process. */
const WINDOW = 4 * 1024 * 1024
/** Number of large blobs that are read concurrently, each by its own process. */
const LARGE_AT_ONCE = 4

/** Reads blobs of one or more repositories; holds only small blobs in memory, until they are read. */
export class BlobReader {
  readonly #git: Git
  readonly #gitDir: string
  readonly #abort = new AbortController()
  #batches: Batch[] = []
  /** Where git finds objects of the other repositories. */
  #env: Record<string, string> = {}
  readonly #large = new Semaphore(LARGE_AT_ONCE)
  readonly #running = new Set<GitProcess>()

  constructor(git: Git, gitDir: string) {
    this.#git = git
    this.#gitDir = gitDir
  }

  /** Reads blobs of these repositories, too. Not while any are being read. */
  async add(gitDirs: readonly string[]): Promise<void> {
    const idle = this.#batches
    this.#batches = []
    const quoted = [...new Set(gitDirs)].map((dir) => JSON.stringify(join(dir, 'objects')))
    this.#env = { GIT_ALTERNATE_OBJECT_DIRECTORIES: quoted.join(':') }
    await Promise.allSettled(idle.map((batch) => batch.close(new Error('another process reads on'))))
  }

  /**
   * The bytes of a blob of known size, in pieces. Calls may overlap, and a reader may stop early.
   * @throws GitFailure if git does not have it, or the reason passed to `close`
   */
  async *read(oid: string, size: number, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    if (size > SMALL) {
      yield* this.#stream(oid, size, signal)
    } else if (size > 0) {
      yield await this.readSmall(oid, size, signal)
    }
  }

  /** A whole blob; only for small ones. */
  async readSmall(oid: string, size: number, signal?: AbortSignal): Promise<Buffer> {
    this.#abort.signal.throwIfAborted()
    while (this.#batches.length < BATCHES) {
      const git = this.#git.start(['cat-file', '--batch'], { gitDir: this.#gitDir, env: this.#env })
      this.#batches.push(new Batch(git))
    }
    const [first, ...others] = this.#batches as [Batch, ...Batch[]]
    const batch = others.reduce((least, other) => (other.load < least.load ? other : least), first)
    return batch.read(oid, size, signal)
  }

  async *#stream(oid: string, size: number, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const ending = signal ? AbortSignal.any([signal, this.#abort.signal]) : this.#abort.signal
    await this.#large.acquire(ending)
    let git: GitProcess | undefined
    try {
      const options = { gitDir: this.#gitDir, env: this.#env, signal: ending }
      git = this.#git.start(['cat-file', 'blob', oid], options)
      this.#running.add(git)
      git.stdin.end()
      let seen = 0
      for await (const chunk of git.stdout as AsyncIterable<Buffer>) {
        seen += chunk.length
        yield chunk
      }
      await git.ended
      if (seen !== size)
        throw new GitFailure('cat-file', `printed ${seen} bytes of ${size}`, `bad object ${oid}`)
    } catch (error) {
      // The reason is more useful than the error about a broken pipe.
      ending.throwIfAborted()
      throw error
    } finally {
      this.#large.release()
      const stopped = git
      stopped?.stop()
      // Until it has exited, `close` waits for it.
      stopped?.ended.catch(() => {}).finally(() => this.#running.delete(stopped))
    }
  }

  /** Stops all processes; pending reads fail with `reason`. Resolves when the processes have exited. */
  async close(reason: unknown = new Error('the context was closed')): Promise<void> {
    const processes = [...this.#running]
    this.#abort.abort(reason)
    await Promise.allSettled([
      ...this.#batches.map((batch) => batch.close(reason)),
      ...processes.map(({ ended }) => ended),
    ])
  }
}

interface BlobRequest {
  oid: string
  size: number
  resolve(content: Buffer): void
  reject(reason: unknown): void
  /** The reader was aborted; the response is discarded. */
  dropped: boolean
}

/**
 * One `git cat-file --batch`: names go in, `<oid> blob <size>\n<content>\n` comes out in the same order.
 * Requests are pipelined, as many as fit into the window.
 */
class Batch {
  readonly #git: GitProcess
  readonly #waiting: BlobRequest[] = []
  readonly #sent: BlobRequest[] = []
  #load = 0
  /** The part of it that has been sent to git. */
  #inFlight = 0
  #failure: { reason: unknown } | undefined
  /** Start of an incomplete header. */
  #header = ''
  #sending: NodeJS.Immediate | undefined
  /** The content being received; its last byte is the newline after it. */
  #content: Buffer | undefined
  #filled = 0

  constructor(git: GitProcess) {
    this.#git = git
    git.stdout.on('data', (chunk: Buffer) => this.#receive(chunk))
    git.stdin.on('error', () => {}) // `ended` has the reason.
    git.ended.then(
      () => this.#fail(new GitFailure('cat-file', 'exited unexpectedly', '')),
      (error) => this.#fail(error),
    )
  }

  /** Bytes that readers wait for. */
  get load(): number {
    return this.#load
  }

  read(oid: string, size: number, signal?: AbortSignal): Promise<Buffer> {
    signal?.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    if (this.#failure) {
      reject(this.#failure.reason)
      return promise
    }
    const request: BlobRequest = { oid, size, resolve, reject, dropped: false }
    this.#waiting.push(request)
    this.#load += size
    this.#sendSoon()
    if (!signal) return promise
    const onAbort = () => {
      request.dropped = true
      reject(signal.reason)
    }
    signal.addEventListener('abort', onAbort)
    return promise.finally(() => signal.removeEventListener('abort', onAbort))
  }

  async close(reason: unknown): Promise<void> {
    this.#fail(reason)
    this.#git.stop()
    await this.#git.ended
  }

  /** Batches requests: each write wakes up git, which costs more than reading a small blob. */
  #sendSoon(): void {
    this.#sending ??= setImmediate(() => {
      this.#sending = undefined
      this.#send()
    })
  }

  #send(): void {
    let lines = ''
    while (
      this.#waiting[0] &&
      (this.#sent.length === 0 || this.#inFlight + this.#waiting[0].size <= WINDOW)
    ) {
      const request = this.#waiting.shift() as BlobRequest
      if (request.dropped) {
        this.#load -= request.size
        continue
      }
      this.#sent.push(request)
      this.#inFlight += request.size
      lines += `${request.oid}\n`
    }
    if (lines !== '' && !this.#failure) this.#git.stdin.write(lines)
  }

  #receive(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length && !this.#failure) {
      at = this.#content ? this.#fill(this.#content, chunk, at) : this.#readHeader(chunk, at)
    }
  }

  #readHeader(chunk: Buffer, at: number): number {
    const newline = chunk.indexOf(10, at)
    const end = newline < 0 ? chunk.length : newline
    this.#header += chunk.toString('latin1', at, end)
    if (newline < 0) return end
    const request = this.#sent[0]
    if (!request || this.#header !== `${request.oid} blob ${request.size}`) {
      this.#fail(new GitFailure('cat-file', 'printed an unexpected header', `bad object: ${this.#header}`))
      this.#git.stop()
      return chunk.length
    }
    this.#header = ''
    this.#content = Buffer.allocUnsafe(request.size + 1)
    this.#filled = 0
    return end + 1
  }

  #fill(content: Buffer, chunk: Buffer, at: number): number {
    const copied = chunk.copy(content, this.#filled, at)
    this.#filled += copied
    if (this.#filled === content.length) {
      const request = this.#sent.shift() as BlobRequest
      this.#content = undefined
      this.#inFlight -= request.size
      this.#load -= request.size
      request.resolve(content.subarray(0, -1))
      this.#sendSoon()
    }
    return at + copied
  }

  #fail(reason: unknown): void {
    this.#failure ??= { reason }
    for (const request of [...this.#sent.splice(0), ...this.#waiting.splice(0)]) request.reject(reason)
  }
}
