import { randomUUID } from 'node:crypto'
import { DeleteObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { awsError } from '../../aws/errors.ts'
import { ConveyorError } from '../../core/errors.ts'
import { unlessRefused } from './conditions.ts'

/** Where it is tried. */
export interface ConditionsPlace {
  client: S3Client
  bucket: string
  /** Ends with a slash, or is empty. */
  prefix: string
}

const TEXT =
  'With this object Conveyor finds out whether its logs are safe here: it must not be overwritten.\n'
/** An ETag that no object has. */
const NO_ETAG = '"00000000000000000000000000000000"'
const NOT_IMPLEMENTED = 501

/**
 * Finds out whether a bucket takes conditional writes, which keep apart two writers of one log, a worker that lost
 * its lease and the one that took over. Servers that do not know them take the write, and lose what was there.
 * @param trace whether one small object may stay in the bucket; without, only `If-Match` is tried, which leaves nothing
 * where it is known
 * @throws ConveyorError `invalid` when it does not; others when it cannot be found out
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
      failed: `whether bucket ${bucket} takes conditional writes cannot be tried`,
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
    `bucket ${bucket} cannot hold logs: its server does not know conditional writes (${header} of PutObject), so one worker would overwrite what another wrote`,
    {
      hint: 'Give a store that knows them, such as Amazon S3 or a recent MinIO, or keep logs in Postgres: --logger postgres://',
      ...(cause !== undefined && { cause }),
    },
  )
}
