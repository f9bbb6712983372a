import type { Agent } from 'node:https'
import { GetObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { awsError } from '../aws/errors.ts'
import { s3Client } from '../aws/s3-client.ts'
import { type S3Location, s3Url } from '../aws/s3-url.ts'
import { ConveyorError } from '../core/errors.ts'
import { type KeyPair, PRIVATE_KEY, PUBLIC_KEY } from './ssh-key.ts'
import type { BootstrapStep } from './step.ts'

/**
 * Uploads a key pair, encrypted at rest. Sets no ACL, so it is private unless the bucket's policy makes it public.
 * Never overwrites an object.
 * @param httpsAgent for connections, e.g. through a proxy
 * @throws ConveyorError `invalid` if the bucket has another pair
 */
export async function uploadKeys(
  { bucket, prefix }: S3Location,
  keys: KeyPair,
  httpsAgent?: Agent,
): Promise<BootstrapStep> {
  const where = s3Url({ bucket, prefix })
  const key = (name: string) => (prefix ? `${prefix}/${name}` : name)
  const client = s3Client(httpsAgent ? { requestHandler: { httpsAgent } } : {})
  try {
    let uploaded = 0
    // The public key last: if it exists, the pair is complete.
    for (const [name, content] of [
      [PRIVATE_KEY, keys.privateKey],
      [PUBLIC_KEY, keys.publicKey],
    ] as const) {
      const found = await find(client, bucket, key(name))
      if (found === null && (await put(client, bucket, key(name), content))) uploaded++
      else if ((found ?? (await get(client, bucket, key(name)))) !== content) {
        throw new ConveyorError('invalid', `${where} already has another ${name}`, {
          hint: 'Remove it there, use another prefix, or put that pair into the --ssh-dir directory',
        })
      }
    }
    return { state: uploaded > 0 ? 'created' : 'ok', text: `${PRIVATE_KEY} and ${PUBLIC_KEY} in ${where}` }
  } catch (error) {
    throw awsError(error, {
      failed: `uploading the keys to ${where} failed`,
      thing: 'bucket',
      permissions: 's3:PutObject and s3:GetObject',
    })
  } finally {
    client.destroy()
  }
}

/** @returns whether the object was written; false if it already exists */
async function put(client: S3Client, Bucket: string, Key: string, Body: string): Promise<boolean> {
  try {
    await client.send(
      new PutObjectCommand({
        ...{ Bucket, Key, Body, ContentType: 'text/plain', IfNoneMatch: '*' },
        ServerSideEncryption: 'AES256',
      }),
    )
    return true
  } catch (error) {
    if ((error as Error).name === 'PreconditionFailed') return false
    throw error
  }
}

/**
 * The current content, because a server that ignores the condition of `put` would overwrite it. Null if the object does
 * not exist, or if without the permission to list the bucket S3 does not tell: then `put` decides.
 */
async function find(client: S3Client, bucket: string, key: string): Promise<string | null> {
  try {
    return await get(client, bucket, key)
  } catch (error) {
    const { name, $metadata } = error as Error & { $metadata?: { httpStatusCode?: number } }
    if (name === 'NoSuchKey' || $metadata?.httpStatusCode === 403) return null
    throw error
  }
}

async function get(client: S3Client, Bucket: string, Key: string): Promise<string> {
  const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }))
  return (await Body?.transformToString()) ?? ''
}
