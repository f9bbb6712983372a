import {
  type CloudWatchLogsClient,
  CreateLogStreamCommand,
  GetLogEventsCommand,
  PutLogEventsCommand,
  type RejectedLogEventsInfo,
  ResourceAlreadyExistsException,
  ResourceNotFoundException,
} from '@aws-sdk/client-cloudwatch-logs'
import { awsError } from '../../aws/errors.ts'
import { ConveyorError } from '../../core/errors.ts'
import { decodeEvent, type LogEvent } from './events.ts'

/** One page of a stream. */
export interface Page {
  events: LogEvent[]
  /** Token of the next page; null while there is no stream. */
  next: string | null
  /** Whether there may already be more at `next`. At the end of a stream, the service returns the same token. */
  more: boolean
}

export interface OutgoingEvent {
  /** Milliseconds since 1970. */
  timestamp: number
  message: string
}

const PERMISSIONS = {
  write: 'logs:CreateLogStream, logs:PutLogEvents and logs:GetLogEvents',
  read: 'logs:GetLogEvents',
}

/**
 * Reads and writes the streams of one log group through the CloudWatch Logs API.
 * https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_Operations.html
 * @throws ConveyorError from every method, with a hint if the group does not exist or access is denied
 */
export class LogStreams {
  readonly #client: CloudWatchLogsClient
  readonly #group: string
  readonly #prefix: string

  constructor(client: CloudWatchLogsClient, group: string, prefix: string) {
    this.#client = client
    this.#group = group
    this.#prefix = prefix
  }

  /** Creates the stream if needed. @returns the time of its last event; 0 if there is none */
  async create(buildId: string): Promise<number> {
    const names = this.#names(buildId)
    return this.#call(buildId, 'write', async () => {
      try {
        await this.#client.send(new CreateLogStreamCommand(names))
        return 0
      } catch (error) {
        if (!(error instanceof ResourceAlreadyExistsException)) throw error
      }
      // Pages may be empty before the end is reached, as long as the token changes.
      let token: string | undefined
      for (;;) {
        const { events = [], nextBackwardToken } = await this.#client.send(
          new GetLogEventsCommand({
            ...names,
            startFromHead: false,
            limit: 1,
            ...(token && { nextToken: token }),
          }),
        )
        const timestamp = events.at(-1)?.timestamp
        if (timestamp !== undefined) return timestamp
        if (nextBackwardToken === undefined || nextBackwardToken === token) return 0
        token = nextBackwardToken
      }
    })
  }

  /** Appends events, sorted by timestamp, within the limits of one request. */
  async put(buildId: string, logEvents: OutgoingEvent[]): Promise<void> {
    await this.#call(buildId, 'write', async () => {
      const { rejectedLogEventsInfo } = await this.#client.send(
        new PutLogEventsCommand({ ...this.#names(buildId), logEvents }),
      )
      if (rejectedLogEventsInfo) throw rejected(buildId, rejectedLogEventsInfo)
    })
  }

  /** At most 1 MiB of events from a token on; without one, from the start. */
  async get(buildId: string, token: string | null): Promise<Page> {
    return this.#call(buildId, 'read', async () => {
      try {
        const { events = [], nextForwardToken = null } = await this.#client.send(
          new GetLogEventsCommand({
            ...this.#names(buildId),
            startFromHead: true,
            ...(token !== null && { nextToken: token }),
          }),
        )
        return {
          events: events.map(({ message = '' }) => decodeEvent(message)),
          next: nextForwardToken,
          more: nextForwardToken !== token,
        }
      } catch (error) {
        if (noStream(error)) return { events: [], next: null, more: false }
        throw error
      }
    })
  }

  #names(buildId: string) {
    return { logGroupName: this.#group, logStreamName: `${this.#prefix}${buildId}` }
  }

  async #call<T>(buildId: string, what: 'read' | 'write', work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (thrown) {
      const failed = `log of build ${buildId} cannot be ${what === 'read' ? 'read' : 'written'}`
      if (thrown instanceof ResourceNotFoundException) throw this.#missing(failed, thrown)
      const thing = `log group ${this.#group}`
      throw awsError(thrown, { failed, thing, permissions: PERMISSIONS[what] })
    }
  }

  #missing(failed: string, thrown: Error): ConveyorError {
    if (noStream(thrown)) {
      return new ConveyorError('unavailable', `${failed}: it was deleted`, {
        retryable: false,
        cause: thrown,
      })
    }
    return new ConveyorError('not_found', `${failed}: there is no log group ${this.#group} in this region`, {
      hint: `Create it with \`aws logs create-log-group --log-group-name ${this.#group}\`, or correct --logger or AWS_REGION`,
      cause: thrown,
    })
  }
}

/** The service uses one error for group and stream; only the message says which does not exist. */
function noStream(error: unknown): boolean {
  return error instanceof ResourceNotFoundException && /log ?stream/i.test(error.message)
}

/** The service drops events with such timestamps, in an otherwise successful response. */
function rejected(buildId: string, { tooNewLogEventStartIndex }: RejectedLogEventsInfo): ConveyorError {
  const why = tooNewLogEventStartIndex === undefined ? 'too old' : 'too new'
  return new ConveyorError(
    'unavailable',
    `log of build ${buildId} cannot be written: CloudWatch dropped events as ${why}`,
    { hint: "Correct this machine's clock", retryable: false },
  )
}
