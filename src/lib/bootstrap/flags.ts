import { parseS3Url, type S3Location } from '../aws/s3-url.ts'
import { ConveyorError } from '../core/errors.ts'

/**
 * Reads `s3://BUCKET[/PREFIX]`.
 * @throws ConveyorError `invalid`
 */
export function parseKeyBucket(text: string): S3Location {
  const location = parseS3Url(text)
  if (location) return location
  throw new ConveyorError('invalid', `--bucket is ${JSON.stringify(text)}: expected s3://BUCKET[/PREFIX]`)
}

/**
 * Reads `NAME=VALUE` of each `--build-arg`.
 * @throws ConveyorError `invalid`
 */
export function parseBuildArgs(texts: string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const [, name, value = ''] = /^(\w+)=(.*)$/s.exec(text) ?? []
      if (name) return [name, value]
      throw new ConveyorError('invalid', `--build-arg is ${JSON.stringify(text)}: expected NAME=VALUE`)
    }),
  )
}
