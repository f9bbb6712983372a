import { randomUUID } from 'node:crypto'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { CreateQueueCommand, GetQueueAttributesCommand, SQSClient } from '@aws-sdk/client-sqs'
import { freePort, projectRoot, type Running, start } from '../processes.ts'
import { tempDir } from '../temp.ts'

export interface AwsOptions {
  /** Keeps queues, messages and objects across `stop` and `start`. By default they are in memory, and lost. */
  persist?: boolean
  /** Default: a free one. */
  port?: number
}

export interface TestQueueOptions {
  /** How long a received message is hidden, unless its receiver sets another time; whole seconds. Default 30. */
  visibilitySeconds?: number
  /** Creates a dead-letter queue too; messages are moved there after being received this many times. */
  maxReceives?: number
  fifo?: boolean
}

interface TestQueue {
  url: string
  /** Null unless requested. */
  deadLetterUrl: string | null
}

/** The settings of an AWS client, as its constructor takes them. */
export interface AwsClientConfig {
  endpoint: string
  region: string
  credentials: { accessKeyId: string; secretAccessKey: string }
}

/** SQS and S3 on this machine: fauxqs in a separate process. It checks no credentials. */
export interface TestAws extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  readonly pid: number
  readonly clientConfig: AwsClientConfig
  /** The same for another process, which finds it in its environment like the AWS SDK does. */
  readonly env: Record<string, string>
  readonly sqs: SQSClient
  readonly s3: S3Client
  /** A new queue with a random name. */
  queue(options?: TestQueueOptions): Promise<TestQueue>
  /** A new bucket's name. */
  bucket(): Promise<string>
  /**
   * The number of S3 requests since the start, by kind: PUT, GET, HEAD and DELETE of objects, LIST, and CREATE, PART
   * and COMPLETE of multipart uploads.
   */
  requests(): Promise<Record<string, number>>
  /** Kills the process, whatever it is doing. */
  stop(): Promise<void>
  /** Starts it again on the same port. */
  start(): Promise<void>
}

/** Starts SQS and S3, and waits until they accept requests. */
export async function startAws({ persist = false, port }: AwsOptions = {}): Promise<TestAws> {
  await using resources = new AsyncDisposableStack()
  const folder = persist ? resources.use(await tempDir('conveyor-aws-')) : null
  const at = port ?? (await freePort())
  const url = `http://127.0.0.1:${at}`
  const config: AwsClientConfig = {
    endpoint: url,
    region: 'us-east-1',
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  }

  let server = await serve(at, folder?.path)
  resources.defer(async () => void (await server.kill('SIGKILL')))
  const sqs = resources.adopt(new SQSClient(config), (client) => client.destroy())
  const s3 = resources.adopt(new S3Client(config), (client) => client.destroy())
  const owned = resources.move()

  async function makeQueue(name: string, attributes: Record<string, string>): Promise<string> {
    const fifo = name.endsWith('.fifo') ? { FifoQueue: 'true' } : {}
    await sqs.send(new CreateQueueCommand({ QueueName: name, Attributes: { ...attributes, ...fifo } }))
    // Not the URL in the response, whose host name may not be resolvable.
    return `${url}/000000000000/${name}`
  }

  return {
    url,
    get pid() {
      return server.pid
    },
    clientConfig: config,
    env: {
      AWS_ENDPOINT_URL: url,
      AWS_REGION: config.region,
      AWS_ACCESS_KEY_ID: config.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: config.credentials.secretAccessKey,
    },
    sqs,
    s3,
    async queue({ visibilitySeconds = 30, maxReceives, fifo = false } = {}) {
      const name = `builds-${randomUUID()}`
      const suffix = fifo ? '.fifo' : ''
      const attributes: Record<string, string> = { VisibilityTimeout: `${visibilitySeconds}` }
      let deadLetterUrl: string | null = null
      if (maxReceives !== undefined) {
        deadLetterUrl = await makeQueue(`${name}-dead${suffix}`, {})
        const answer = await sqs.send(
          new GetQueueAttributesCommand({ QueueUrl: deadLetterUrl, AttributeNames: ['QueueArn'] }),
        )
        attributes.RedrivePolicy = JSON.stringify({
          deadLetterTargetArn: answer.Attributes?.QueueArn,
          maxReceiveCount: maxReceives,
        })
      }
      return { url: await makeQueue(`${name}${suffix}`, attributes), deadLetterUrl }
    },
    async bucket() {
      const name = `conveyor-${randomUUID()}`
      await s3.send(new CreateBucketCommand({ Bucket: name }))
      return name
    },
    async requests() {
      return (await (await fetch(`${url}/_requests`)).json()) as Record<string, number>
    },
    async stop() {
      await server.kill('SIGKILL')
    },
    async start() {
      await server.kill('SIGKILL')
      server = await serve(at, folder?.path)
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

async function serve(port: number, dataDir: string | undefined): Promise<Running> {
  const script = `${projectRoot}test/support/aws/server.ts`
  const args = ['--disable-warning=ExperimentalWarning', script, `${port}`, ...(dataDir ? [dataDir] : [])]
  const server = await start(process.execPath, args)
  try {
    await server.waitFor(/listening/)
    return server
  } catch (error) {
    await server.kill('SIGKILL')
    throw error
  }
}
