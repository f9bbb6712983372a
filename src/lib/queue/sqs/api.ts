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
import { Semaphore } from '../../util/semaphore.ts'
import { sqsName } from './message.ts'
import { sqsRegion } from './url.ts'

/** A message as it was received: its handle names this one delivery of it. */
export interface Received {
  id: string
  handle: string
  body: string
  deliveries: number
  /** ARN of the queue that gave it up; of messages in a dead-letter queue, where the server tells. */
  from: string | undefined
}

export interface Outgoing {
  body: string
  /** What it is fair to treat alike. */
  group: string
  /** One message of this name in five minutes is enough. For FIFO queues only, which need it. */
  once: string
}

export interface ReceiveRequest {
  /** 1 to 10. */
  max: number
  /** How long to wait for the first, in seconds. */
  waitSeconds: number
  leaseSeconds: number
  signal?: AbortSignal
}

/** The longest that SQS waits for a message, in seconds. */
export const LONGEST_WAIT = 20
/** Time for an answer. The SDK alone would wait for ever where packets are lost. */
const ANSWER_MS = 10_000

const RECEIVE = 'sqs:ReceiveMessage, sqs:ChangeMessageVisibility and sqs:DeleteMessage'

/** Errors for a handle that names no delivery any more, by what servers call them. */
const STALE = /MessageNotInflight|ReceiptHandleIsInvalid/
const STALE_MESSAGE = /receipt handle (has expired|is invalid)|beyond the limit/i

/**
 * A client for the queue at `url`, in the region that the URL names. Everything else the SDK finds itself.
 * @param httpsAgent its connections, e.g. through a proxy
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
    // It would tell the console, at every request, that it goes to the host of the queue's URL.
    logger: { trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet },
    ...config,
  })
}

/** What Conveyor asks of one queue. Every method rejects with a ConveyorError, after the SDK's own retries. */
export class SqsApi {
  readonly url: string
  readonly #client: SQSClient
  /** Time limits run from here: in a burst, requests must not wait in the client for one of its 50 sockets. */
  readonly #semaphore = new Semaphore(20)
  /** Whether a standard queue takes messages with a group. */
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
   * A FIFO queue delivers one message of a group at a time, so each message is its own group there: builds of
   * one repository run side by side. To a standard queue the group is whom to be fair to: who sends much does
   * not delay others. Servers other than Amazon's may refuse groups there, as SQS itself did until 2025: then it is
   * sent without. https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
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
      MessageSystemAttributeNames: ['ApproximateReceiveCount', 'DeadLetterQueueSourceArn'],
    })
    const options = {
      requestTimeout: waitSeconds * 1000 + ANSWER_MS,
      ...(signal && { abortSignal: signal }),
    }
    const { Messages = [] } = await this.#call('read', RECEIVE, () => this.#client.send(request, options))
    return Messages.map(received)
  }

  /** False when the handle names no delivery any more. */
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

  /** False when the handle names no delivery any more; a standard queue may not say so. */
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

/** What has the status of a bad request, too, and passes. */
const THROTTLED = ['RequestThrottled', 'Throttling', 'ThrottlingException']

/** A request that the server will not take as it is, whatever it calls that. */
function isBadRequest(error: unknown): boolean {
  const { name = '', $metadata } = error as Error & { $metadata?: { httpStatusCode?: number } }
  return $metadata?.httpStatusCode === 400 && !THROTTLED.includes(name)
}

function received({ MessageId = '', ReceiptHandle = '', Body = '', Attributes }: Message): Received {
  return {
    id: MessageId,
    handle: ReceiptHandle,
    body: Body,
    deliveries: Number(Attributes?.ApproximateReceiveCount ?? 1),
    from: Attributes?.DeadLetterQueueSourceArn,
  }
}
