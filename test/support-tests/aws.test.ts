import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { ReceiveMessageCommand, SendMessageCommand } from '@aws-sdk/client-sqs'
import { expect, test } from 'vitest'
import { startAws } from '../support/aws/aws.ts'

test('SQS and S3 in a separate process, which keeps its data over a restart', async () => {
  await using aws = await startAws({ persist: true })
  const { url, deadLetterUrl } = await aws.queue({ maxReceives: 1 })
  const bucket = await aws.bucket()
  await aws.sqs.send(new SendMessageCommand({ QueueUrl: url, MessageBody: 'hello' }))
  await aws.s3.send(new PutObjectCommand({ Bucket: bucket, Key: 'a/b', Body: 'there' }))

  await aws.stop()
  await expect(fetch(aws.url)).rejects.toThrow()
  await aws.start()

  const object = await aws.s3.send(new GetObjectCommand({ Bucket: bucket, Key: 'a/b' }))
  expect(await object.Body?.transformToString()).toBe('there')
  const receive = async (from: string | null, visibility: number) => {
    const wanted = { QueueUrl: from ?? '', VisibilityTimeout: visibility }
    return (await aws.sqs.send(new ReceiveMessageCommand(wanted))).Messages?.[0]?.Body
  }
  expect(await receive(url, 0)).toBe('hello')
  expect(await receive(url, 0)).toBeUndefined()
  expect(await receive(deadLetterUrl, 0)).toBe('hello')
})

test('a conditional write is refused when its condition does not hold', async () => {
  await using aws = await startAws()
  const at = { Bucket: await aws.bucket(), Key: 'k' }
  const put = (Body: string, condition: { IfNoneMatch: string } | { IfMatch: string }) =>
    aws.s3.send(new PutObjectCommand({ ...at, Body, ...condition }))
  const races = await Promise.allSettled(['a', 'b', 'c'].map((body) => put(body, { IfNoneMatch: '*' })))
  expect(races.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  await expect(put('d', { IfMatch: '"other"' })).rejects.toMatchObject({ name: 'PreconditionFailed' })

  const { UploadId } = await aws.s3.send(new CreateMultipartUploadCommand(at))
  const part = await aws.s3.send(new UploadPartCommand({ ...at, UploadId, PartNumber: 1, Body: 'parts' }))
  const MultipartUpload = { Parts: [{ PartNumber: 1, ETag: part.ETag }] }
  const complete = (condition: object) =>
    aws.s3.send(new CompleteMultipartUploadCommand({ ...at, UploadId, MultipartUpload, ...condition }))
  await expect(complete({ IfNoneMatch: '*' })).rejects.toMatchObject({ name: 'PreconditionFailed' })
  const { ETag } = await aws.s3.send(new GetObjectCommand(at))
  await complete({ IfMatch: ETag })
  expect(await aws.requests()).toMatchObject({ PUT: 4, GET: 1, CREATE: 1, PART: 1, COMPLETE: 2 })
})
