import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, unlink } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { errorCodes } from 'fastify'
import { WebhookSignature } from '../../forge/github/webhook-signature.ts'
import { Room } from './byte-quota.ts'

const MiB = 1024 * 1024

/** GitHub sends at most 25 MB. */
const LARGEST = 25 * MiB
/** Nearly every push is smaller. What is larger waits for its signature on the disk. */
const SMALL = 256 * 1024

/** There are too many bodies that have not come to their end; or nobody is there any more for whom to keep this one. */
export class NoRoom extends Error {}

/** A body that has come to its end, and may still be anybody's. */
export interface SpooledBody {
  /** Whether `X-Hub-Signature-256` is the signature of exactly these bytes. To be asked once. */
  isSignedBy(signature: string | undefined): boolean
  /** All of it, to make something of it that is smaller. Large ones are in memory one after another. To be called once. */
  read<T>(use: (bytes: Buffer) => Promise<T>): Promise<T>
}

/**
 * Takes bodies of strangers: hashed as they come, and kept where they cost little until their signature is known.
 * Small ones have room of their own, so that large ones, which only need to be begun, keep nobody out.
 */
export class BodySpool {
  readonly #secret: string | null
  readonly #dir: string
  readonly #memory = new Room({ inAll: 64 * MiB, perAddress: 32 * MiB })
  readonly #disk = new Room({ inAll: 500 * MiB, perAddress: 125 * MiB })
  /** Large bodies are read one after another. */
  #reading: Promise<unknown> = Promise.resolve()

  /** @param dir where large bodies wait; made when it is needed */
  constructor({ secret, dir }: { secret: string | null; dir: string }) {
    this.#secret = secret
    this.#dir = dir
  }

  /**
   * Reads a body to its end. What it takes is given back when the response is closed.
   * @throws NoRoom, or Fastify's own error for a body that is too large
   */
  async receive(request: IncomingMessage, response: ServerResponse): Promise<SpooledBody> {
    if (Number(request.headers['content-length'] ?? 0) > LARGEST)
      throw new errorCodes.FST_ERR_CTP_BODY_TOO_LARGE()
    const hash = this.#secret === null ? null : new WebhookSignature(this.#secret)
    const body = new Body(request.socket.remoteAddress ?? '', this.#dir, this.#memory, this.#disk)
    let closed = response.destroyed
    response.once('close', () => {
      closed = true
      void body.drop()
    })
    try {
      // What is thrown here is still to be answered over the same connection.
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

/** One body on its way, and what it has taken. */
class Body {
  #size = 0
  #pieces: Buffer[] = []
  #file: FileHandle | null = null
  #dropped = false
  readonly #address: string
  readonly #dir: string
  readonly #memory: Room
  readonly #disk: Room

  constructor(address: string, dir: string, memory: Room, disk: Room) {
    this.#address = address
    this.#dir = dir
    this.#memory = memory
    this.#disk = disk
  }

  async add(piece: Buffer): Promise<void> {
    const size = this.#size + piece.length
    if (size > LARGEST) throw new errorCodes.FST_ERR_CTP_BODY_TOO_LARGE()
    if (this.#file === null && size > SMALL) await this.#moveToDisk()
    if (this.#dropped) throw new NoRoom()
    const room = this.#file === null ? this.#memory : this.#disk
    if (!room.take(this.#address, piece.length)) throw new NoRoom()
    this.#size = size
    if (this.#file === null) this.#pieces.push(piece)
    else await this.#file.appendFile(piece)
  }

  get isLarge(): boolean {
    return this.#file !== null
  }

  async bytes(): Promise<Buffer> {
    if (this.#dropped) throw new NoRoom()
    if (this.#file === null) return Buffer.concat(this.#pieces)
    const bytes = Buffer.alloc(this.#size)
    for (let at = 0; at < bytes.length; ) {
      const { bytesRead } = await this.#file.read(bytes, at, bytes.length - at, at)
      if (bytesRead === 0) throw new Error('a spooled body is cut short')
      at += bytesRead
    }
    return bytes
  }

  /** Gives back all that it has taken. */
  async drop(): Promise<void> {
    if (this.#dropped) return
    this.#dropped = true
    const room = this.#file === null ? this.#memory : this.#disk
    room.give(this.#address, this.#size)
    this.#pieces = []
    await this.#file?.close()
  }

  async #moveToDisk(): Promise<void> {
    if (!this.#disk.take(this.#address, this.#size)) throw new NoRoom()
    const file = await namelessFile(this.#dir)
    // The connection may have been closed meanwhile.
    if (this.#dropped) {
      this.#disk.give(this.#address, this.#size)
      await file.close()
      throw new NoRoom()
    }
    this.#memory.give(this.#address, this.#size)
    this.#file = file
    for (const piece of this.#pieces) await file.appendFile(piece)
    this.#pieces = []
  }
}

/** A file that is gone when it is closed, or when the process ends in whatever way. */
async function namelessFile(dir: string): Promise<FileHandle> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const path = join(dir, randomUUID())
  const file = await open(path, 'wx+', 0o600)
  await unlink(path)
  return file
}
