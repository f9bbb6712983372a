import type { Agent } from 'node:https'
import type { SQSClientConfig } from '@aws-sdk/client-sqs'
import { ConveyorError, toConveyorError } from '../../core/errors.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import type { Job, Queue } from '../queue.ts'
import { LONGEST_WAIT, type Received, SqsApi, sqsClient } from './api.ts'
import { SqsDeadLetters } from './dead-letters.ts'
import { sqsJob } from './job.ts'
import { decodeMessage, encodeMessage, type SqsMessage } from './message.ts'
import { SqsReceivers } from './receivers.ts'
import { sqsUrlOfArn } from './url.ts'

export interface SqsQueueOptions {
  /** URL of the queue, http or https; may be a FIFO queue. */
  url: string
  /** How long a job is held before it is delivered again, in whole seconds; up to 12 h. Default 30. */
  leaseSeconds?: number
  /** How often the dead-letter queue, if there is one, is checked for builds, in seconds. Default 60. */
  deadLetterSeconds?: number
  /** Settings that the AWS SDK does not find itself: endpoint, credentials; region, if the URL names none. */
  clientConfig?: SQSClientConfig
  /** Makes its connections, e.g. through a proxy. */
  httpsAgent?: Agent
  /** Called with one line for each thing that operators should know. */
  log: (line: string) => void
}

/** With fewer receives, a build that is retried or loses its worker takes the detour of the dead-letter queue. */
const FEW_RECEIVES = 5

/**
 * Jobs in Amazon SQS, for any number of processes. A message is deleted when its build has ended, hidden while its worker
 * extends the lease, and delivered again otherwise. SQS may deliver it twice, and in any order: the build store makes
 * sure that only one worker builds.
 *
 * A message that cannot be read is moved to the dead-letter queue at once, or deleted if there is none. Builds do not
 * stay in the dead-letter queue: see SqsDeadLetters.
 *
 * Warm workers are not preferred: SQS has neither selectors nor a way to peek at a message.
 * @throws ConveyorError `not_found` when there is no such queue, `unauthorized`, `unavailable`
 */
export async function sqsQueue(options: SqsQueueOptions): Promise<Queue> {
  const { url, leaseSeconds = 30, log } = options
  const client = sqsClient(url, options.clientConfig, options.httpsAgent)
  const queue = new SqsApi(client, url)
  const deadLetters = await openDeadLetters().catch((error) => {
    client.destroy()
    throw error
  })
  const receivers = new SqsReceivers(poll)
  let closing: Promise<void> | undefined

  async function openDeadLetters(): Promise<SqsDeadLetters | null> {
    const { QueueArn: queueArn = '', RedrivePolicy } = await queue.attributes('QueueArn', 'RedrivePolicy')
    if (!RedrivePolicy) return null
    const { deadLetterTargetArn, maxReceiveCount } = JSON.parse(RedrivePolicy) as Record<string, unknown>
    const deadUrl = sqsUrlOfArn(url, String(deadLetterTargetArn))
    if (!deadUrl) return null
    if (Number(maxReceiveCount) < FEW_RECEIVES) {
      log(
        `warning: queue ${url} moves messages to its dead-letter queue after ${maxReceiveCount} receives, which delays retried builds by up to a minute. Set its maxReceiveCount to ${FEW_RECEIVES} or more`,
      )
    }
    const { deadLetterSeconds: everySeconds = 60 } = options
    return new SqsDeadLetters({ queue, queueArn, dead: new SqsApi(client, deadUrl), everySeconds, log })
  }

  async function poll(max: number, signal: AbortSignal): Promise<Job[]> {
    const messages = await queue.receive({ max, waitSeconds: LONGEST_WAIT, leaseSeconds, signal })
    const jobs = await Promise.all(
      messages.map(async (received) => {
        const message = await read(received)
        return message && sqsJob(queue, received, message, leaseSeconds)
      }),
    )
    return jobs.filter((job) => job !== null)
  }

  async function read(received: Received): Promise<SqsMessage | null> {
    try {
      return decodeMessage(received.body)
    } catch (thrown) {
      await discard(received, toConveyorError(thrown, 'it cannot be read').message)
      return null
    }
  }

  /** Never rejects: a message that is still there is received, and discarded, again. */
  async function discard(received: Received, why: string): Promise<void> {
    const what = `message ${received.id} (${received.body.length} characters) is not a build: ${why}`
    try {
      await deadLetters?.keep(received)
      await queue.delete(received.handle)
      log(`queue: ${what}. ${deadLetters ? 'Moved to the dead-letter queue' : 'Deleted'}`)
    } catch (error) {
      log(`queue: ${what}. It stays in the queue: ${toConveyorError(error, 'cannot be moved').advice}`)
    }
  }

  async function close(): Promise<void> {
    await Promise.all([receivers.close(), deadLetters?.close()])
    client.destroy()
  }

  return {
    durable: true,
    duplicates: true,
    leaseSeconds,

    async send({ buildId, repository }) {
      if (closing) {
        throw new ConveyorError('unavailable', `cannot queue build ${buildId}: Conveyor is shutting down`)
      }
      const group = repositoryKey(repository)
      await queue.send({ body: encodeMessage({ buildId, repository }), group, once: buildId })
    },

    receive(signal) {
      if (closing) return Promise.resolve(null)
      // Only processes that take jobs requeue them: a server may lack the permission.
      deadLetters?.start()
      return receivers.next(signal)
    },

    /**
     * Approximate, as SQS counts. Jobs that were released with a delay count as `leased`. Only CloudWatch knows the age of
     * the oldest message (ApproximateAgeOfOldestMessage): `oldestSeconds` is null unless the queue is empty.
     */
    async depth() {
      const counts = await queue.attributes(
        'ApproximateNumberOfMessages',
        'ApproximateNumberOfMessagesNotVisible',
        'ApproximateNumberOfMessagesDelayed',
      )
      const ready =
        Number(counts.ApproximateNumberOfMessages ?? 0) +
        Number(counts.ApproximateNumberOfMessagesDelayed ?? 0)
      const leased = Number(counts.ApproximateNumberOfMessagesNotVisible ?? 0)
      return { ready, leased, oldestSeconds: ready === 0 ? 0 : null }
    },

    close: () => (closing ??= close()),
  }
}
