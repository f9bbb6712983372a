import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, unlink } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { errorCodes } from 'fastify'
import type { WebhookSignature } from '../../forge/forge.ts'
import { clientOf } from '../../net/networks.ts'
import { ByteQuota } from './byte-quota.ts'

const MiB = 1024 * 1024

/** GitHub sends at most 25 MB. */
const LARGEST = 25 * MiB
/** Nearly every push is smaller. Larger bodies are spooled to disk until their signature is verified. */
const IN_MEMORY = 256 * 1024

/** A quota is used up, or the client that sent the body is gone. */
export class SpoolFull extends Error {}

/** A body that was received completely, and may be forged. */
export interface SpooledBody {
  /** Whether `X-Hub-Signature-256` is the signature of exactly these bytes. May be called only once. */
  isSignedBy(signature: string | undefined): boolean
  /** Passes the whole body to `use`. Large bodies are loaded into memory one at a time. May be called only once. */
  read<T>(use: (bytes: Buffer) => Promise<T>): Promise<T>
}

/**
 * Receives bodies from unauthenticated clients: they are hashed as they arrive, and kept where they cost little until
 * their signature is verified. Small ones have a quota of their own, so that large ones, which an attacker only needs
 * to begin, cannot block them.
 */
export class BodySpool {
  readonly #signature: (() => WebhookSignature) | null
  readonly #dir: string
  readonly #memory = new ByteQuota({ total: 64 * MiB, perAddress: 32 * MiB })
  readonly #disk = new ByteQuota({ total: 500 * MiB, perAddress: 125 * MiB })
  /** Settles when the last large body has been read: they are read one at a time. */
  #reading: Promise<unknown> = Promise.resolve()

  /**
   * @param signature makes the verifier of a body; null if bodies are not signed
   * @param dir folder for large bodies; created when needed
   */
  constructor({ signature, dir }: { signature: (() => WebhookSignature) | null; dir: string }) {
    this.#signature = signature
    this.#dir = dir
  }

  /**
   * Receives a body completely. Its memory or disk space is released when the response is closed.
   * @param address of the client, as far as it is known: that of a proxy, unless the proxy is trusted
   * @throws SpoolFull, or Fastify's error for a body that is too large
   */
  async receive(request: IncomingMessage, response: ServerResponse, address: string): Promise<SpooledBody> {
    if (Number(request.headers['content-length'] ?? 0) > LARGEST)
      throw new errorCodes.FST_ERR_CTP_BODY_TOO_LARGE()
    const hash = this.#signature?.() ?? null
    const body = new Body(clientOf(address), this.#dir, this.#memory, this.#disk)
    let closed = response.destroyed
    response.once('close', () => {
      closed = true
      void body.drop()
    })
    try {
      // An error thrown here still has to be sent over the same connection.
      for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        hash?.update(piece)
        await body.add(piece)
      }
    } catch (error) {
      await body.drop()
      throw error
    }
    if (closed) await body.drop()
    return {
      isSignedBy: (signature) => hash?.matches(signature) ?? false,
      read: (use) => {
        const work = async () => use(await body.bytes())
        if (!body.isLarge) return work()
        const read = this.#reading.then(work)
        this.#reading = read.catch(() => {})
        return read
      },
    }
  }
}

/** A body that is being received, and what it has reserved. */
class Body {
  #size = 0
  #pieces: Buffer[] = []
  #file: FileHandle | null = null
  #dropped = false
  readonly #address: string
  readonly #dir: string
  readonly #memory: ByteQuota
  readonly #disk: ByteQuota

  constructor(address: string, dir: string, memory: ByteQuota, disk: ByteQuota) {
    this.#address = address
    this.#dir = dir
    this.#memory = memory
    this.#disk = disk
  }

  async add(piece: Buffer): Promise<void> {
    const size = this.#size + piece.length
    if (size > LARGEST) throw new errorCodes.FST_ERR_CTP_BODY_TOO_LARGE()
    if (this.#file === null && size > IN_MEMORY) await this.#moveToDisk()
    if (this.#dropped) throw new SpoolFull()
    const quota = this.#file === null ? this.#memory : this.#disk
    if (!quota.reserve(this.#address, piece.length)) throw new SpoolFull()
    this.#size = size
    if (this.#file === null) this.#pieces.push(piece)
    else await this.#file.appendFile(piece)
  }

  get isLarge(): boolean {
    return this.#file !== null
  }

  async bytes(): Promise<Buffer> {
    if (this.#dropped) throw new SpoolFull()
    if (this.#file === null) return Buffer.concat(this.#pieces)
    const bytes = Buffer.alloc(this.#size)
    for (let at = 0; at < bytes.length; ) {
      const { bytesRead } = await this.#file.read(bytes, at, bytes.length - at, at)
      if (bytesRead === 0) throw new Error('a spooled body is truncated')
      at += bytesRead
    }
    return bytes
  }

  /** Releases everything that it has reserved. */
  async drop(): Promise<void> {
    if (this.#dropped) return
    this.#dropped = true
    const quota = this.#file === null ? this.#memory : this.#disk
    quota.release(this.#address, this.#size)
    this.#pieces = []
    await this.#file?.close()
  }

  async #moveToDisk(): Promise<void> {
    if (!this.#disk.reserve(this.#address, this.#size)) throw new SpoolFull()
    const file = await unlinkedFile(this.#dir).catch((error: unknown) => {
      this.#disk.release(this.#address, this.#size)
      throw error
    })
    // The connection may have been closed meanwhile.
    if (this.#dropped) {
      this.#disk.release(this.#address, this.#size)
      await file.close()
      throw new SpoolFull()
    }
    this.#memory.release(this.#address, this.#size)
    this.#file = file
    for (const piece of this.#pieces) await file.appendFile(piece)
    this.#pieces = []
  }
}

/** An unlinked file: it disappears when it is closed, or when the process ends for any reason. */
async function unlinkedFile(dir: string): Promise<FileHandle> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const path = join(dir, randomUUID())
  const file = await open(path, 'wx+', 0o600)
  await unlink(path)
  return file
}
