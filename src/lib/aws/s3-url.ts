/** A place in Amazon S3, or in a store that speaks its API. */
export interface S3Location {
  bucket: string
  /** Empty, or without slashes at its end. */
  prefix: string
}

/**
 * Parses `s3://BUCKET[/PREFIX]`.
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
 * @returns undefined if it is not such a URL
 */
export function parseS3Url(text: string): S3Location | undefined {
  const [, bucket, prefix = ''] =
    /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*?))?\/*$/.exec(text) ?? []
  return bucket ? { bucket, prefix } : undefined
}

/** `s3://BUCKET[/PREFIX]`, for people. */
export function s3Url({ bucket, prefix }: S3Location): string {
  return prefix ? `s3://${bucket}/${prefix}` : `s3://${bucket}`
}
