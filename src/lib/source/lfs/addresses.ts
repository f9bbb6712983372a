import { BATCH_SIZE, type LfsDownload, type LfsServer } from './batch.ts'
import type { LfsObject } from './pointer.ts'

/** How many objects are looked at for a batch. */
const LOOK_AHEAD = 400

interface AddressedTree {
  /** Of the server. */
  host: string
  objects: LfsObject[]
  log: ((line: string) => void) | undefined
}

/** Where the objects of a tree are: looked up in batches, when the first of each is needed. */
export class LfsAddresses {
  readonly #server: LfsServer
  readonly #tree: AddressedTree
  readonly #has: (object: LfsObject) => Promise<boolean>
  readonly #signal: AbortSignal
  readonly #known = new Map<string, LfsDownload>()
  readonly #wanted = new Map<string, LfsObject>()
  /** Whose address somebody has, and who may still be downloading. */
  readonly #given = new Set<string>()
  /** Those that were not looked up yet. */
  readonly #rest: IterableIterator<LfsObject>
  #batch: Promise<void> | undefined
  #told = false

  constructor(
    server: LfsServer,
    tree: AddressedTree,
    has: (object: LfsObject) => Promise<boolean>,
    signal: AbortSignal,
  ) {
    this.#server = server
    this.#tree = tree
    this.#has = has
    this.#signal = signal
    this.#rest = tree.objects.values()
  }

  /** Each answer is given once: whoever asks again wants a new one. @throws ConveyorError as LfsServer */
  async of(object: LfsObject): Promise<LfsDownload> {
    for (;;) {
      this.#signal.throwIfAborted()
      const known = this.#known.get(object.oid)
      if (known && !('until' in known && known.until < Date.now())) {
        this.#known.delete(object.oid)
        this.#given.add(object.oid)
        return known
      }
      this.#wanted.set(object.oid, object)
      this.#batch ??= this.#lookUp().finally(() => {
        this.#batch = undefined
      })
      await this.#batch
    }
  }

  async #lookUp(): Promise<void> {
    if (!this.#told) this.#tell()
    // Also those that are read next: BuildKit asks for a few files at a time.
    for (let seen = 0; seen < LOOK_AHEAD && this.#wanted.size < BATCH_SIZE; seen++) {
      const { value: next } = this.#rest.next()
      if (next === undefined) break
      const isFound = this.#known.has(next.oid) || this.#given.has(next.oid)
      if (!isFound && !(await this.#has(next))) this.#wanted.set(next.oid, next)
    }
    const objects = [...this.#wanted.values()].slice(0, BATCH_SIZE)
    for (const { oid } of objects) this.#wanted.delete(oid)
    for (const [oid, found] of await this.#server.downloads(objects, this.#signal))
      this.#known.set(oid, found)
  }

  #tell(): void {
    this.#told = true
    const { objects, log, host } = this.#tree
    const megabytes = objects.reduce((sum, { size }) => sum + size, 0) / 1e6
    const files = objects.length === 1 ? '1 object' : `${objects.length} objects`
    const size = megabytes < 10 ? megabytes.toFixed(1) : megabytes.toFixed(0)
    log?.(`downloading what is needed of ${files} in Git LFS, ${size} MB, from ${host}`)
  }
}
