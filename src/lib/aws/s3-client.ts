import { createHash } from 'node:crypto'
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'

/** Headers that the SDK may add to the one request that requires a checksum; few servers but Amazon's know them. */
const NEW_CHECKSUM = /^x-amz-(checksum-.*|sdk-checksum-algorithm)$/

/**
 * A client for Amazon S3 and compatible stores, which may support neither the checksums that the SDK has added to every
 * upload since 2025, nor virtual-hosted buckets.
 * https://docs.aws.amazon.com/sdkref/latest/guide/feature-dataintegrity.html
 */
export function s3Client(config: S3ClientConfig = {}): S3Client {
  const client = new S3Client({
    forcePathStyle: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    ...config,
  })
  // DeleteObjects requires a checksum, and servers other than Amazon's expect it as Content-MD5.
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        if (commandName === 'DeleteObjectsCommand') withMd5(args.request as HttpRequest)
        return next(args)
      },
    { step: 'build', priority: 'low', name: 'contentMd5' },
  )
  return client
}

interface HttpRequest {
  headers: Record<string, string>
  body: string | Uint8Array
}

function withMd5({ headers, body }: HttpRequest): void {
  for (const name of Object.keys(headers)) if (NEW_CHECKSUM.test(name.toLowerCase())) delete headers[name]
  headers['content-md5'] = createHash('md5').update(body).digest('base64')
}
