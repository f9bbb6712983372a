import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  type S3Client,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3'
import { MovedError, onlyInsteadOf, unlessRefused } from './conditions.ts'
import type { StoredText } from './layout.ts'

/** A multipart upload of a text, which is invisible until it is complete. */
export class TextUpload {
  readonly #client: S3Client
  readonly #upload: { Bucket: string; Key: string; UploadId: string | undefined }
  readonly #call: <T>(work: () => Promise<T>) => Promise<T>
  readonly #parts: { PartNumber: number; ETag: string | undefined }[] = []

  /** @param call runs a request, and explains its errors */
  constructor(
    client: S3Client,
    upload: { Bucket: string; Key: string; UploadId: string | undefined },
    call: <T>(work: () => Promise<T>) => Promise<T>,
  ) {
    this.#client = client
    this.#upload = upload
    this.#call = call
  }

  /** @param Body at least 5 MiB, unless it is the last */
  async part(Body: Uint8Array): Promise<void> {
    const PartNumber = this.#parts.length + 1
    const part = new UploadPartCommand({ ...this.#upload, PartNumber, Body })
    const { ETag } = await this.#call(() => this.#client.send(part))
    this.#parts.push({ PartNumber, ETag })
  }

  /**
   * Copies the current text as a part: at least 5 MiB, at most 5 GiB.
   * @throws MovedError if it was replaced
   */
  async copy({ etag }: StoredText): Promise<void> {
    const PartNumber = this.#parts.length + 1
    const { Bucket, Key } = this.#upload
    const copy = new UploadPartCopyCommand({
      ...this.#upload,
      PartNumber,
      CopySource: `${Bucket}/${Key}`.split('/').map(encodeURIComponent).join('/'),
      CopySourceIfMatch: etag,
    })
    const answer = await this.#call(() => unlessRefused(() => this.#client.send(copy)))
    if (!answer) throw new MovedError('the text was replaced')
    this.#parts.push({ PartNumber, ETag: answer.CopyPartResult?.ETag })
  }

  /** False if the text is no longer the one that this was made from. */
  async complete(madeFrom: StoredText | null): Promise<boolean> {
    const complete = new CompleteMultipartUploadCommand({
      ...this.#upload,
      ...onlyInsteadOf(madeFrom),
      MultipartUpload: { Parts: this.#parts },
    })
    const answer = await this.#call(() => unlessRefused(() => this.#client.send(complete)))
    return answer !== undefined
  }

  async abort(): Promise<void> {
    await this.#call(() => this.#client.send(new AbortMultipartUploadCommand(this.#upload)))
  }
}
