import { randomUUID } from 'node:crypto'
import { CloudWatchLogsClient, CreateLogGroupCommand } from '@aws-sdk/client-cloudwatch-logs'
import { freePort, projectRoot, start } from '../processes.ts'
import type { AwsClientConfig } from './aws.ts'
import type { CloudwatchSettings } from './cloudwatch-server.ts'

/** CloudWatch Logs on this machine, in a separate process that keeps everything in memory. */
export interface TestCloudwatch extends AsyncDisposable {
  readonly url: string
  readonly clientConfig: AwsClientConfig
  /** The same for another process. */
  readonly env: Record<string, string>
  readonly client: CloudWatchLogsClient
  /** Creates a group; resolves to its name. */
  group(): Promise<string>
  set(settings: Partial<CloudwatchSettings>): Promise<void>
  /** The number of requests since the start, by operation. */
  requests(): Promise<Record<string, number>>
  /** The contents of a stream, as the console would show them. */
  events(group: string, stream: string): Promise<{ timestamp: number; message: string }[]>
}

export async function startCloudwatch(): Promise<TestCloudwatch> {
  await using resources = new AsyncDisposableStack()
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const script = `${projectRoot}test/support/aws/cloudwatch-server.ts`
  const server = await start(process.execPath, ['--disable-warning=ExperimentalWarning', script, `${port}`])
  resources.defer(async () => void (await server.kill('SIGKILL')))
  await server.waitFor(/listening/)
  const clientConfig: AwsClientConfig = {
    endpoint: url,
    region: 'us-east-1',
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  }
  const client = resources.adopt(new CloudWatchLogsClient(clientConfig), (it) => it.destroy())
  const owned = resources.move()
  return {
    url,
    clientConfig,
    env: {
      AWS_ENDPOINT_URL_CLOUDWATCH_LOGS: url,
      AWS_REGION: clientConfig.region,
      AWS_ACCESS_KEY_ID: clientConfig.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: clientConfig.credentials.secretAccessKey,
    },
    client,
    async group() {
      const name = `/conveyor/${randomUUID()}`
      await client.send(new CreateLogGroupCommand({ logGroupName: name }))
      return name
    },
    async set(settings) {
      const answer = await fetch(`${url}/_settings`, { method: 'POST', body: JSON.stringify(settings) })
      if (!answer.ok) throw new Error(`settings: HTTP status ${answer.status}`)
    },
    async requests() {
      return (await (await fetch(`${url}/_requests`)).json()) as Record<string, number>
    },
    async events(group, stream) {
      const query = new URLSearchParams({ group, stream })
      return (await (await fetch(`${url}/_stream?${query}`)).json()) as {
        timestamp: number
        message: string
      }[]
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
