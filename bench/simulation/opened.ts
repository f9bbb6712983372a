import { SQSClient, type SQSClientConfig } from '@aws-sdk/client-sqs'
import { Postgres } from '../../src/lib/db/postgres.ts'
import type { LogStore } from '../../src/lib/logs/log-store.ts'
import { postgresLogStore } from '../../src/lib/logs/postgres/log-store.ts'
import { postgresQueue } from '../../src/lib/queue/postgres/queue.ts'
import type { Queue } from '../../src/lib/queue/queue.ts'
import { sqsQueue } from '../../src/lib/queue/sqs/queue.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { postgresBuildStore } from '../../src/lib/store/postgres.ts'
import type { AwsClientConfig } from '../../test/support/aws/aws.ts'
import { logsElsewhere } from './parts.ts'

/** Where a process finds what it shares with the others. */
export interface Place {
  /** The database. */
  url: string
  /** The queue on SQS; null: the one in the database. */
  sqs: { url: string; config: AwsClientConfig } | null
  logs: 'database' | 'elsewhere'
}

/** What a Conveyor process has open. */
export interface Opened {
  store: BuildStore
  queue: Queue
  logs: LogStore
}

/** Requests to SQS that this process made, by what they were. */
export const sqsRequests: Record<string, number> = {}

/** Opens everything as a separate process would, with connections that are not shared. */
export async function openAll({ url, sqs, logs }: Place, log: (line: string) => void): Promise<Opened> {
  const postgres = new Postgres({ url })
  return {
    store: await postgresBuildStore({ postgres }),
    queue: sqs
      ? await sqsQueue({ url: sqs.url, clientConfig: counted(sqs.config), log })
      : await postgresQueue({ postgres }),
    logs: logs === 'database' ? await postgresLogStore({ postgres }) : logsElsewhere(log),
  }
}

/** The same configuration, of a client that counts what goes over the wire: retries too. */
function counted(config: AwsClientConfig): SQSClientConfig {
  const wire = new SQSClient(config).config.requestHandler
  return {
    ...config,
    requestHandler: {
      metadata: wire.metadata,
      handle(request: Parameters<typeof wire.handle>[0], options: Parameters<typeof wire.handle>[1]) {
        const name = request.headers['x-amz-target']?.replace('AmazonSQS.', '') ?? 'unknown'
        sqsRequests[name] = (sqsRequests[name] ?? 0) + 1
        return wire.handle(request, options)
      },
      destroy: () => wire.destroy?.(),
      updateHttpClientConfig() {},
      httpHandlerConfigs: () => ({}),
    },
  }
}
