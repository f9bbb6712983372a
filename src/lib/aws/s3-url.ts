/** Where objects are in S3. */
export interface S3Location {
  bucket: string
  /** Without slashes at its end; empty for the whole bucket. */
  prefix: string
}

/** How what `parseS3Url` takes is explained. */
export const S3_FORM = 's3://BUCKET[/PREFIX]'

/** Names of buckets: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html */
const S3_URL = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*?))?\/*$/

/** @returns undefined when it is not an S3 URL */
export function parseS3Url(text: string): S3Location | undefined {
  const [, bucket, prefix = ''] = S3_URL.exec(text) ?? []
  return bucket ? { bucket, prefix } : undefined
}
