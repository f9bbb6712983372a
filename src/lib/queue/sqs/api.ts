import type { Agent } from 'node:https'
import {
  ChangeMessageVisibilityCommand,
  DeleteMessageCommand,
  GetQueueAttributesCommand,
  type Message,
  type QueueAttributeName,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
  type SQSClientConfig,
} from '@aws-sdk/client-sqs'
import { awsError } from '../../aws/errors.ts'
import { Semaphore } from '../../util/locks/semaphore.ts'
import { sqsName } from './message.ts'
import { sqsRegion } from './url.ts'

/** A received message. Its handle identifies this one delivery. */
export interface Received {
  id: string
  handle: string
  body: string
  /** ARN of the queue that a message in a dead-letter queue came from, if the server reports it. */
  from: string | undefined
}

export interface Outgoing {
  body: string
  /** Messages of one group share a fair share of the queue. */
  group: string
  /** Deduplicates messages within five minutes. Only used on FIFO queues, which require it. */
  once: string
}

export interface ReceiveRequest {
  /** 1 to 10. */
  max: number
  /** How long to wait for the first message, in seconds. */
  waitSeconds: number
  leaseSeconds: number
  signal?: AbortSignal
}

/** The longest long poll of SQS, in seconds. */
export const LONGEST_WAIT = 20
/** Timeout for a response. Without one, the SDK would wait forever if packets are lost. */
const ANSWER_MS = 10_000

const RECEIVE = 'sqs:ReceiveMessage, sqs:ChangeMessageVisibility and sqs:DeleteMessage'

/** Errors for a handle whose delivery is over, as various servers name them. */
const STALE = /MessageNotInflight|ReceiptHandleIsInvalid/
const STALE_MESSAGE = /receipt handle (has expired|is invalid)|beyond the limit/i

/**
 * A client for the queue at `url`, in the region that the URL names. The SDK finds everything else itself.
 * @param httpsAgent makes its connections, e.g. through a proxy
 */
export function sqsClient(url: string, config: SQSClientConfig = {}, httpsAgent?: Agent): SQSClient {
  const region = sqsRegion(url)
  const quiet = () => {}
  return new SQSClient({
    ...(region && { region }),
    requestHandler: {
      connectionTimeout: 5000,
      requestTimeout: ANSWER_MS,
      throwOnRequestTimeout: true,
      ...(httpsAgent && { httpsAgent }),
    },
    // Otherwise, it prints to the console on every request that it uses the host of the queue's URL.
    logger: { trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet },
    ...config,
  })
}

/** The requests that Conveyor sends to one queue. Methods reject with a ConveyorError, after the SDK's own retries. */
export class SqsApi {
  readonly url: string
  readonly #client: SQSClient
  /** Keeps a burst of requests from timing out while they wait for one of the client's 50 sockets. */
  readonly #semaphore = new Semaphore(20)
  /** Whether a standard queue accepts messages with a group. */
  #groups = true

  constructor(client: SQSClient, url: string) {
    this.#client = client
    this.url = url
  }

  async attributes<T extends QueueAttributeName>(...names: T[]): Promise<Partial<Record<T, string>>> {
    const answer = await this.#call('read', 'sqs:GetQueueAttributes', () =>
      this.#client.send(new GetQueueAttributesCommand({ QueueUrl: this.url, AttributeNames: names })),
    )
    return answer.Attributes ?? {}
  }

  /**
   * A FIFO queue delivers one message of a group at a time, so each message is its own group there: builds of one
   * repository run in parallel. On a standard queue, groups make delivery fair: a busy one does not delay others.
   * Servers other than Amazon's may reject groups there, as SQS itself did until 2025; messages are then sent without.
   * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
   */
  async send({ body, group, once }: Outgoing): Promise<void> {
    const send = (names: { MessageGroupId?: string; MessageDeduplicationId?: string }) =>
      this.#semaphore.run(() =>
        this.#client.send(new SendMessageCommand({ QueueUrl: this.url, MessageBody: body, ...names })),
      )
    await this.#call('written', 'sqs:SendMessage', async () => {
      if (this.url.endsWith('.fifo')) {
        await send({ MessageGroupId: sqsName(once), MessageDeduplicationId: sqsName(once) })
      } else if (this.#groups) {
        await send({ MessageGroupId: sqsName(group) }).catch(async (error) => {
          if (!isBadRequest(error)) throw error
          await send({})
          this.#groups = false
        })
      } else await send({})
    })
  }

  async receive({ max, waitSeconds, leaseSeconds, signal }: ReceiveRequest): Promise<Received[]> {
    const request = new ReceiveMessageCommand({
      QueueUrl: this.url,
      MaxNumberOfMessages: max,
      WaitTimeSeconds: waitSeconds,
      VisibilityTimeout: leaseSeconds,
      MessageSystemAttributeNames: ['DeadLetterQueueSourceArn'],
    })
    const options = {
      requestTimeout: waitSeconds * 1000 + ANSWER_MS,
      ...(signal && { abortSignal: signal }),
    }
    const { Messages = [] } = await this.#call('read', RECEIVE, () => this.#client.send(request, options))
    return Messages.map(received)
  }

  /** False if the delivery of the handle is over. */
  async setVisibility(handle: string, seconds: number): Promise<boolean> {
    return this.#withHandle(() =>
      this.#client.send(
        new ChangeMessageVisibilityCommand({
          QueueUrl: this.url,
          ReceiptHandle: handle,
          VisibilityTimeout: seconds,
        }),
      ),
    )
  }

  /** False if the delivery of the handle is over; a standard queue may not report that. */
  async delete(handle: string): Promise<boolean> {
    return this.#withHandle(() =>
      this.#client.send(new DeleteMessageCommand({ QueueUrl: this.url, ReceiptHandle: handle })),
    )
  }

  async #withHandle(request: () => Promise<unknown>): Promise<boolean> {
    return this.#call('changed', RECEIVE, async () => {
      try {
        await this.#semaphore.run(request)
        return true
      } catch (error) {
        if (error instanceof Error && (STALE.test(error.name) || STALE_MESSAGE.test(error.message)))
          return false
        throw error
      }
    })
  }

  async #call<T>(what: string, permissions: string, request: () => Promise<T>): Promise<T> {
    try {
      return await request()
    } catch (thrown) {
      throw awsError(thrown, { failed: `queue ${this.url} cannot be ${what}`, thing: 'queue', permissions })
    }
  }
}

/** Transient errors that also have the status of a bad request. */
const THROTTLED = ['RequestThrottled', 'Throttling', 'ThrottlingException']

/** Whether the server rejects a request as such, whatever it names the error. */
function isBadRequest(error: unknown): boolean {
  const { name = '', $metadata } = error as Error & { $metadata?: { httpStatusCode?: number } }
  return $metadata?.httpStatusCode === 400 && !THROTTLED.includes(name)
}

function received({ MessageId = '', ReceiptHandle = '', Body = '', Attributes }: Message): Received {
  return {
    id: MessageId,
    handle: ReceiptHandle,
    body: Body,
    from: Attributes?.DeadLetterQueueSourceArn,
  }
}
