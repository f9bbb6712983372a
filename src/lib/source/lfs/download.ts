import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { ConveyorError, toConveyorError } from '../../core/errors.ts'
import { retry } from '../../util/retry.ts'
import type { LfsAddresses } from './addresses.ts'
import { discard, type LfsHttp, NoLfsResponse } from './http.ts'
import type { LfsObject } from './pointer.ts'

export interface DownloadOptions {
  http: LfsHttp
  addresses: LfsAddresses
  /** Of the server, for errors. */
  host: string
  /** `a.bin in acme/app@0123456` */
  about: string
  /** Waits before retries, in milliseconds. */
  backoffMs: readonly number[]
  signal: AbortSignal
}

/** Bytes that are not those of the object. */
export class WrongContent extends Error {}

/** A response without the object. An address that no longer works is asked for again. */
class BadStatus extends Error {
  readonly transient: boolean

  constructor(status: number, host: string) {
    super(`${host} answered HTTP ${status}`)
    this.transient = [401, 403, 404, 410, 429].includes(status) || status >= 500
  }
}

/** Writes an object to a file. @throws ConveyorError as LfsReader */
export async function download(file: FileHandle, object: LfsObject, options: DownloadOptions): Promise<void> {
  const { http, addresses, host, about, backoffMs: delays, signal } = options
  const attempt = async () => {
    const from = await addresses.of(object)
    if (!('href' in from)) throw refusal(from, object, options)
    const { href: url, headers: own } = from
    const answer = await http.send({ method: 'GET', url, headers: {}, own, signal })
    if (answer.status === 200) return write(answer.body, file, object)
    discard(answer)
    throw new BadStatus(answer.status, url.host)
  }
  const isRetryable = (error: unknown) =>
    error instanceof WrongContent ||
    ((error instanceof NoLfsResponse || error instanceof BadStatus) && error.transient)
  try {
    await retry(attempt, { delays, isRetryable, signal })
  } catch (error) {
    signal.throwIfAborted()
    const unanswered = error instanceof NoLfsResponse
    if (!(unanswered || error instanceof BadStatus || error instanceof WrongContent)) {
      throw toConveyorError(error, `could not store ${about} of Git LFS`)
    }
    const why = error instanceof WrongContent ? `${host} ${error.message}` : error.message
    throw new ConveyorError('unavailable', `could not get ${about} from Git LFS: ${why}`, {
      hint: (unanswered && error.hint) || 'See whether git lfs pull gets it in a clone',
      // What is wrong every time will not be right later.
      retryable: !(error instanceof WrongContent),
      cause: error,
    })
  }
}

/** Copies an object from a repository in a folder, where git-lfs keeps it. @throws ConveyorError as LfsReader */
export async function copy(
  file: FileHandle,
  object: LfsObject,
  folder: string,
  about: string,
): Promise<void> {
  const { oid } = object
  const host = 'the repository'
  for (const objects of ['lfs/objects', '.git/lfs/objects']) {
    try {
      const path = join(folder, objects, oid.slice(0, 2), oid.slice(2, 4), oid)
      return await write(createReadStream(path), file, object)
    } catch (error) {
      if (error instanceof WrongContent) {
        throw new ConveyorError(
          'unavailable',
          `could not get ${about} from Git LFS: ${host} ${error.message}`,
          {
            retryable: false,
          },
        )
      }
      const { code } = (error instanceof NoLfsResponse ? error.cause : error) as NodeJS.ErrnoException
      if (code !== 'ENOENT') throw toConveyorError(error, `could not copy ${about} of Git LFS`)
    }
  }
  throw refusal({ code: 404, message: '' }, object, { host, about })
}

function refusal(
  { code, message }: { code: number; message: string },
  { oid }: LfsObject,
  { host, about }: Pick<DownloadOptions, 'host' | 'about'>,
): ConveyorError {
  const said = message && ` (${message})`
  if (code === 404 || code === 410) {
    const why = `${about} is missing in Git LFS: ${host} has no object ${oid.slice(0, 12)}${said}`
    return new ConveyorError('build_failed', why, {
      hint: 'Upload it from a clone that has it: git lfs push --all origin',
    })
  }
  const why = `could not get ${about} from Git LFS: ${host} answered ${code}${said} for object ${oid.slice(0, 12)}`
  return new ConveyorError('unavailable', why, { retryable: code === 429 || code >= 500 })
}

/** @throws WrongContent if the body is not the object; NoLfsResponse if it breaks off */
async function write(
  body: AsyncIterable<Uint8Array>,
  file: FileHandle,
  { oid, size }: LfsObject,
): Promise<void> {
  const hash = createHash('sha256')
  let at = 0
  try {
    for await (const chunk of body) {
      if (at + chunk.length > size) throw new WrongContent(`sent more than its ${size} bytes`)
      hash.update(chunk)
      await file.write(chunk, 0, chunk.length, at)
      at += chunk.length
    }
  } catch (error) {
    const ours = error instanceof WrongContent || (error as NodeJS.ErrnoException).syscall === 'write'
    throw ours ? error : new NoLfsResponse(error)
  }
  await file.truncate(at)
  if (at !== size) throw new WrongContent(`sent ${at} of its ${size} bytes`)
  if (hash.digest('hex') !== oid) throw new WrongContent(`sent bytes whose SHA-256 is not ${oid}`)
}

/** Bytes per read. */
const CHUNK = 256 * 1024

/** The bytes of a file. @throws WrongContent before the last ones if it is not the object */
export async function* verified(file: FileHandle, { oid, size }: LfsObject): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256')
  let held: Uint8Array | undefined
  let at = 0
  while (at < size) {
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK, size - at))
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at)
    if (bytesRead === 0) break
    if (held) yield held
    held = buffer.subarray(0, bytesRead)
    hash.update(held)
    at += bytesRead
  }
  if (hash.digest('hex') !== oid) throw new WrongContent(`its SHA-256 is not ${oid}`)
  if (held) yield held
}
