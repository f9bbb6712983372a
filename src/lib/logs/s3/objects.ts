import {
  CreateMultipartUploadCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { awsError } from '../../aws/errors.ts'
import { batches } from '../../util/collections/batches.ts'
import { MovedError, onlyInsteadOf, unlessMissing, unlessRefused } from './conditions.ts'
import type { ByteRange, Listing, StoredText } from './layout.ts'
import { TextUpload } from './text-upload.ts'

export interface LogObjectsOptions {
  client: S3Client
  bucket: string
  /** Empty, or ends with a slash. */
  prefix: string
  what: 'read' | 'written'
}

const PERMISSIONS = {
  read: 's3:GetObject and s3:ListBucket',
  written: 's3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket',
}
/** No ACL is set: access is up to the bucket's policy, and private by default. */
const TYPE = { ContentType: 'text/plain; charset=utf-8' }
/** The most objects that one request can delete. */
const REMOVED_AT_ONCE = 1_000

/**
 * Reads and writes the objects of logs in one bucket through the S3 API.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
 * @throws ConveyorError from every method, with a hint if the bucket does not exist or access is denied
 */
export class LogObjects {
  readonly #client: S3Client
  readonly #bucket: string
  readonly #prefix: string
  readonly #what: 'read' | 'written'

  constructor({ client, bucket, prefix, what }: LogObjectsOptions) {
    this.#client = client
    this.#bucket = bucket
    this.#prefix = prefix
    this.#what = what
  }

  /** @param from skips segments before this offset, most of them at least */
  async list(buildId: string, from = 0): Promise<Listing> {
    const prefix = `${this.#prefix}logs/${buildId}`
    const listing: Listing = { text: null, segments: [], openings: [] }
    await this.#call(buildId, async () => {
      let token: string | undefined
      do {
        const page = await this.#client.send(
          new ListObjectsV2Command({
            Bucket: this.#bucket,
            Prefix: prefix,
            ...(from > 0 && { StartAfter: this.#segment(buildId, from - 1) }),
            ...(token && { ContinuationToken: token }),
          }),
        )
        for (const { Key = '', Size = 0, ETag = '' } of page.Contents ?? []) {
          const [, ending, offset, open] = /^(\.txt|-(\d{16})(-open)?)$/.exec(Key.slice(prefix.length)) ?? []
          if (ending === '.txt') listing.text = { size: Size, etag: ETag }
          else if (open) listing.openings.push(Number(offset))
          else if (offset) listing.segments.push({ offset: Number(offset), size: Size })
        }
        token = page.NextContinuationToken
      } while (token)
    })
    return listing
  }

  /**
   * Stores a segment, unless there already is one at its offset.
   * @param writer identifies the writer: if it stored the segment earlier and the response was lost, that is a success
   */
  async create(buildId: string, offset: number, bytes: Uint8Array, writer: string): Promise<boolean> {
    const at = { Bucket: this.#bucket, Key: this.#segment(buildId, offset) }
    return this.#call(buildId, async () => {
      const put = new PutObjectCommand({
        ...at,
        ...TYPE,
        Body: bytes,
        IfNoneMatch: '*',
        Metadata: { writer },
      })
      if (await unlessRefused(() => this.#client.send(put))) return true
      const found = await unlessMissing(() => this.#client.send(new HeadObjectCommand(at)))
      return found?.Metadata?.writer === writer
    })
  }

  /** How much of the log is in the text. */
  async textSize(buildId: string): Promise<number> {
    const head = new HeadObjectCommand({ Bucket: this.#bucket, Key: this.#text(buildId) })
    return this.#call(
      buildId,
      async () => (await unlessMissing(() => this.#client.send(head)))?.ContentLength ?? 0,
    )
  }

  /** @throws MovedError */
  async read(buildId: string, { object, start, length }: ByteRange): Promise<Buffer> {
    const get = new GetObjectCommand({
      Bucket: this.#bucket,
      Key: object === 'text' ? this.#text(buildId) : this.#segment(buildId, object),
      Range: `bytes=${start}-${start + length - 1}`,
    })
    return this.#call(buildId, async () => {
      const bytes = await unlessMissing(async () =>
        (await this.#client.send(get)).Body?.transformToByteArray(),
      )
      if (!bytes) throw new MovedError(`there is no ${get.input.Key}`)
      if (bytes.length !== length) throw new Error(`received ${bytes.length} bytes instead of ${length}`)
      return Buffer.from(bytes.buffer, bytes.byteOffset, length)
    })
  }

  /** Marks that the log continues behind its text. */
  async reopen(buildId: string, offset: number): Promise<void> {
    const Key = `${this.#segment(buildId, offset)}-open`
    await this.#call(buildId, () =>
      this.#client.send(new PutObjectCommand({ Bucket: this.#bucket, Key, ...TYPE, Body: new Uint8Array() })),
    )
  }

  /** Replaces the text. False if it is no longer the one that this was made from. */
  async putText(buildId: string, bytes: Uint8Array, madeFrom: StoredText | null): Promise<boolean> {
    const at = { Bucket: this.#bucket, Key: this.#text(buildId) }
    const put = new PutObjectCommand({ ...at, ...TYPE, Body: bytes, ...onlyInsteadOf(madeFrom) })
    const answer = await this.#call(buildId, () => unlessRefused(() => this.#client.send(put)))
    return answer !== undefined
  }

  /** Starts a multipart upload of the text. */
  async startText(buildId: string): Promise<TextUpload> {
    const at = { Bucket: this.#bucket, Key: this.#text(buildId) }
    const { UploadId } = await this.#call(buildId, () =>
      this.#client.send(new CreateMultipartUploadCommand({ ...at, ...TYPE })),
    )
    return new TextUpload(this.#client, { ...at, UploadId }, (work) => this.#call(buildId, work))
  }

  async remove(buildId: string, { segments, openings }: Omit<Listing, 'text'>): Promise<void> {
    const keys = [
      ...segments.map(({ offset }) => this.#segment(buildId, offset)),
      ...openings.map((offset) => `${this.#segment(buildId, offset)}-open`),
    ]
    for (const some of batches(keys, REMOVED_AT_ONCE)) {
      const Objects = some.map((Key) => ({ Key }))
      await this.#call(buildId, async () => {
        const remove = new DeleteObjectsCommand({ Bucket: this.#bucket, Delete: { Objects, Quiet: true } })
        const [failed] = (await this.#client.send(remove)).Errors ?? []
        if (failed) throw Object.assign(new Error(failed.Message), { name: failed.Code })
      })
    }
  }

  #text(buildId: string): string {
    return `${this.#prefix}logs/${buildId}.txt`
  }

  #segment(buildId: string, offset: number): string {
    return `${this.#prefix}logs/${buildId}-${String(offset).padStart(16, '0')}`
  }

  async #call<T>(buildId: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (thrown) {
      if (thrown instanceof MovedError) throw thrown
      throw awsError(thrown, {
        failed: `log of build ${buildId} cannot be ${this.#what}`,
        thing: `bucket ${this.#bucket}`,
        permissions: PERMISSIONS[this.#what],
      })
    }
  }
}
