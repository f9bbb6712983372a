import type { Agent } from 'node:https'
import { GetObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { awsError } from '../aws/errors.ts'
import { s3Client } from '../aws/s3-client.ts'
import { type S3Location, s3Url } from '../aws/s3-url.ts'
import { ConveyorError } from '../core/errors.ts'
import { type KeyPair, PRIVATE_KEY, PUBLIC_KEY } from './ssh-key.ts'
import type { Step } from './step.ts'

/**
 * Uploads a key pair, encrypted at rest. No ACL is set, so it is private unless the bucket's policy is not.
 * Objects that are there are never overwritten.
 * @param httpsAgent its connections, e.g. through a proxy
 * @throws ConveyorError `invalid` when another pair is there
 */
export async function uploadKeys(
  { bucket, prefix }: S3Location,
  keys: KeyPair,
  httpsAgent?: Agent,
): Promise<Step> {
  const where = s3Url({ bucket, prefix })
  const key = (name: string) => (prefix ? `${prefix}/${name}` : name)
  const client = s3Client(httpsAgent ? { requestHandler: { httpsAgent } } : {})
  try {
    let uploaded = 0
    // The public one last: where it is, the pair is complete.
    for (const [name, content] of [
      [PRIVATE_KEY, keys.privateKey],
      [PUBLIC_KEY, keys.publicKey],
    ] as const) {
      const there = await find(client, bucket, key(name))
      if (there === null && (await put(client, bucket, key(name), content))) uploaded++
      else if ((there ?? (await get(client, bucket, key(name)))) !== content) {
        throw new ConveyorError('invalid', `${where} has another ${name} already`, {
          hint: 'Remove it there, choose another prefix, or put that pair into the folder of --ssh-dir',
        })
      }
    }
    return { state: uploaded > 0 ? 'made' : 'there', text: `${PRIVATE_KEY} and ${PUBLIC_KEY} in ${where}` }
  } catch (error) {
    throw awsError(error, {
      failed: `the keys could not be uploaded to ${where}`,
      thing: 'bucket',
      permissions: 's3:PutObject and s3:GetObject',
    })
  } finally {
    client.destroy()
  }
}

/** @returns whether it was written; false when there is an object of that name */
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
 * What is there; a server that does not know the condition of `put` would overwrite it. Null when nothing is, or when
 * one is not told without the right to list the bucket: then `put` decides.
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
