import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseS3Url } from '../../aws/s3-url.ts'
import { POSTGRES_FORM, postgresUrl } from '../../db/postgres-url.ts'
import { sqsUrl } from '../../queue/sqs/url.ts'
import { EVERY_BUILD, option } from '../option.ts'
import { directory, value } from '../values.ts'

export type LoggerConfig =
  | { kind: 'stdout' }
  | { kind: 'file'; dir: string }
  | { kind: 's3'; bucket: string; prefix: string }
  | { kind: 'cloudwatch'; group: string }
  /** In the database of the builds. */
  | { kind: 'postgres' }

/** `url` of Postgres is null for the database of the builds. */
type QueueConfig =
  | { kind: 'memory' }
  | { kind: 'sqs'; url: string }
  | { kind: 'postgres'; url: string | null }

export type DatabaseConfig = { kind: 'sqlite'; file: string } | { kind: 'postgres'; url: string }

/** Names of log groups: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateLogGroup.html */
const LOG_GROUP = /^[\w./#-]{1,512}$/

const logger = value(
  'stdout://, file://DIR, s3://BUCKET[/PREFIX], cloudwatch://GROUP, or postgres://',
  parseLogger,
)

function parseLogger(text: string): LoggerConfig | undefined {
  const [, scheme, rest = ''] = /^([a-z0-9]+):\/\/(.*)$/.exec(text) ?? []
  if (rest === '') return scheme === 'stdout' || scheme === 'postgres' ? { kind: scheme } : undefined
  if (scheme === 'file') return { kind: 'file', dir: resolve(rest) }
  if (scheme === 'cloudwatch') return LOG_GROUP.test(rest) ? { kind: 'cloudwatch', group: rest } : undefined
  const location = parseS3Url(text)
  return location && { kind: 's3', ...location }
}

const queue = value(
  `memory://, postgres://, sqs://HOST/PATH, sqs:// with SQS_QUEUE_URL, or ${POSTGRES_FORM}`,
  parseQueue,
)

function parseQueue(text: string, environment: NodeJS.ProcessEnv): QueueConfig | undefined {
  if (text === 'memory://') return { kind: 'memory' }
  if (text === 'postgres://') return { kind: 'postgres', url: null }
  if (!text.startsWith('sqs://')) return postgres(text)
  const url = sqsUrl(text, environment.SQS_QUEUE_URL)
  return url === undefined ? undefined : { kind: 'sqs', url }
}

const database = value(`sqlite://FILE or ${POSTGRES_FORM}`, (text): DatabaseConfig | undefined => {
  const file = /^sqlite:\/\/(.+)$/.exec(text)?.[1]
  return file ? { kind: 'sqlite', file: resolve(file) } : postgres(text)
})

function postgres(text: string): { kind: 'postgres'; url: string } | undefined {
  const url = postgresUrl(text)
  return url === undefined ? undefined : { kind: 'postgres', url }
}

/** Where builds, jobs, and logs are kept. */
export const STORAGE = {
  logger: option({
    flag: 'logger',
    env: 'LOGGER',
    help: 'Where build logs go: stdout:// (with a copy in the data directory), file://DIR, s3://BUCKET[/PREFIX], cloudwatch://GROUP, or postgres:// (the database of --db)',
    value: 'url',
    type: logger,
    defaultText: 'postgres:// if --db is Postgres, otherwise stdout://',
  }),
  queue: option({
    flag: 'queue',
    env: 'QUEUE',
    help: 'Build queue: memory:// (the server runs builds itself), postgres:// (the database of --db), postgres://USER:PASSWORD@HOST/NAME, sqs://HOST/PATH of the queue, or sqs:// with its URL in SQS_QUEUE_URL',
    value: 'url',
    type: queue,
    default: 'memory://',
    secret: 'password',
  }),
  db: option({
    flag: 'db',
    env: 'DATABASE_URL',
    help: 'Database of builds: sqlite://FILE, or postgres://USER:PASSWORD@HOST/NAME',
    value: 'url',
    type: database,
    defaultText: 'sqlite://DATA_DIR/conveyor.db',
    secret: 'password',
  }),
  dataDir: option({
    flag: 'data-dir',
    env: 'DATA_DIR',
    help: 'Directory for git mirrors, Git LFS objects, builds, and logs',
    value: 'dir',
    type: directory,
    default: process.getuid?.() === 0 ? '/var/lib/conveyor' : join(homedir(), '.local', 'share', 'conveyor'),
    defaultText: '/var/lib/conveyor, or ~/.local/share/conveyor if not root',
    commands: [...EVERY_BUILD, 'bootstrap'],
  }),
}
