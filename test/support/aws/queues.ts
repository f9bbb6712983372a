import { GetQueueAttributesCommand } from '@aws-sdk/client-sqs'
import type { Job, Queue } from '../../../src/lib/queue/queue.ts'
import type { TestAws } from './aws.ts'

/** Waits for the next job; if none comes, the test's own time limit ends the wait. */
export async function take(queue: Queue): Promise<Job> {
  const job = await queue.receive(new AbortController().signal)
  if (!job) throw new Error('the queue was closed')
  return job
}

/** How many messages of an SQS queue are waiting, and how many have been received and are hidden. */
export async function messagesIn(aws: TestAws, queueUrl: string): Promise<[waiting: number, hidden: number]> {
  const answer = await aws.sqs.send(
    new GetQueueAttributesCommand({ QueueUrl: queueUrl, AttributeNames: ['All'] }),
  )
  const { ApproximateNumberOfMessages: waiting, ApproximateNumberOfMessagesNotVisible: hidden } =
    answer.Attributes ?? {}
  return [Number(waiting), Number(hidden)]
}
