import { randomUUID } from 'node:crypto'
import { DeleteObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { awsError } from '../../aws/errors.ts'
import { ConveyorError } from '../../core/errors.ts'
import { unlessRefused } from './conditions.ts'

/** The location to check. */
export interface ConditionsPlace {
  client: S3Client
  bucket: string
  /** Empty, or ends with a slash. */
  prefix: string
}

const TEXT =
  'Conveyor uses this object to check that logs are safe in this bucket: it must not be overwritten.\n'
/** An ETag that no object has. */
const NO_ETAG = '"00000000000000000000000000000000"'
const NOT_IMPLEMENTED = 501

/**
 * Checks that a bucket supports conditional writes, which keep two writers of one log apart: a worker that lost its lease
 * and the one that took over. Servers without support accept the write, and overwrite existing data.
 * @param trace whether one small object may stay in the bucket; if not, only `If-Match` is checked, which leaves nothing
 * on servers that support it
 * @throws ConveyorError `invalid` if it does not; others if that cannot be checked
 */
export async function checkConditions(place: ConditionsPlace, { trace }: { trace: boolean }): Promise<void> {
  const { bucket, prefix } = place
  const key = `${prefix}logs/conveyor-writes${trace ? '' : `-${randomUUID()}`}.txt`
  try {
    if (trace) {
      const first = await isTaken(place, key, { IfNoneMatch: '*' })
      if (first && (await isTaken(place, key, { IfNoneMatch: '*' }))) throw unsafe(bucket, 'If-None-Match')
    }
    if (!(await isTaken(place, key, { IfMatch: NO_ETAG }))) return
    if (!trace) await place.client.send(new DeleteObjectCommand({ Bucket: bucket, Key: key }))
    throw unsafe(bucket, 'If-Match')
  } catch (thrown) {
    if (statusOf(thrown) === NOT_IMPLEMENTED) throw unsafe(bucket, 'If-None-Match and If-Match', thrown)
    throw awsError(thrown, {
      failed: `cannot check whether bucket ${bucket} supports conditional writes`,
      thing: `bucket ${bucket}`,
      permissions: 's3:PutObject',
    })
  }
}

async function isTaken(
  { client, bucket }: ConditionsPlace,
  Key: string,
  condition: { IfNoneMatch: '*' } | { IfMatch: string },
): Promise<boolean> {
  const put = new PutObjectCommand({
    ...{ Bucket: bucket, Key, Body: TEXT, ContentType: 'text/plain', ...condition },
  })
  return (await unlessRefused(() => client.send(put))) !== undefined
}

function statusOf(thrown: unknown): number | undefined {
  return (thrown as { $metadata?: { httpStatusCode?: number } } | null)?.$metadata?.httpStatusCode
}

function unsafe(bucket: string, header: string, cause?: unknown): ConveyorError {
  return new ConveyorError(
    'invalid',
    `bucket ${bucket} cannot store logs: its server does not support conditional writes (${header} of PutObject), so workers could overwrite each other's logs`,
    {
      hint: 'Use storage that supports them, such as Amazon S3 or a recent MinIO, or store logs in Postgres: --logger postgres://',
      ...(cause !== undefined && { cause }),
    },
  )
}
