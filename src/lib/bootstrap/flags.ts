import { ConveyorError } from '../core/errors.ts'
import type { KeyBucket } from './upload-keys.ts'

/**
 * Reads `s3://BUCKET[/PREFIX]`.
 * @throws ConveyorError `invalid`
 */
export function parseKeyBucket(text: string): KeyBucket {
  const [, bucket, prefix = ''] =
    /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*?))?\/*$/.exec(text) ?? []
  if (bucket) return { bucket, prefix }
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
