import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import type { RecordedStatus } from '../support/github/double.ts'
import { pushPayload, sendWebhook } from '../support/github/push.ts'
import { lastLines } from '../support/processes.ts'
import type { Surroundings } from './surroundings.ts'

/** A push, from its webhook to the final commit status. */
export interface PushResult {
  sha: string
  /** From the webhook to the final commit status. */
  seconds: number
  /** `registry/owner/name@sha256:...` */
  image: string
  /** Where the time went, from the build's log. */
  summary: string
}

/** Conveyor's answer to a push that it accepts. */
interface PushAnswer {
  id: string
  log: string
  outcome: string
}

export interface PushOptions {
  repository: string
  sha: string
  branch: string
  message: string
  signal: AbortSignal
  onAnswer(answer: { status: number; ms: number; body: PushAnswer }): void
  onLog(line: string): void
  onStatus(status: RecordedStatus): void
}

/**
 * Sends a signed push webhook as GitHub does, and follows the build.
 * @throws Error if the webhook is not accepted, or the final commit status is not success
 */
export async function push(around: Surroundings, options: PushOptions): Promise<PushResult> {
  const { server, github, webhookSecret } = around
  const { repository, sha, branch, message, signal } = options
  const tree = await around.git.treeOf(repository, sha)
  const payload = await pushPayload({ repository, sha, tree, ref: `refs/heads/${branch}`, message })

  const earlier = new Set(github.statuses)
  const sent = Date.now()
  const answer = await sendWebhook({ url: server.url, secret: webhookSecret, event: 'push', payload })
  const ms = Date.now() - sent
  if (answer.status !== 202) throw new Error(`the webhook was answered ${answer.status}: ${answer.body}`)
  const body = JSON.parse(answer.body) as PushAnswer
  options.onAnswer({ status: answer.status, ms, body })

  const [last, log] = await orAborted(
    signal,
    Promise.all([lastStatus(around, earlier, options), followLog(around, body.id, options)]),
  )
  options.onStatus(last)
  if (last.state !== 'success') {
    throw new Error(
      `the commit status is ${last.state}. Last lines of the log:\n${lastLines(log.join('\n'))}`,
    )
  }
  if (github.violations.length > 0) {
    throw new Error(`GitHub would have rejected a request: ${github.violations.join('; ')}`)
  }
  const summary = log.find((line) => / s in all$/.test(line))
  const image = log.find((line) => line.startsWith('image '))?.slice('image '.length)
  if (!summary || !image) throw new Error('the log has no summary or no image')
  return { sha, seconds: (last.at - sent) / 1000, image, summary }
}

/** Shows the log while the build runs. @returns its lines */
async function followLog({ server }: Surroundings, id: string, options: PushOptions): Promise<string[]> {
  const answer = await fetch(`${server.url}/logs/${id}`, { signal: options.signal })
  if (!answer.ok || !answer.body) throw new Error(`GET of the log answered ${answer.status}`)
  const lines: string[] = []
  try {
    for await (const line of createInterface({ input: Readable.fromWeb(answer.body as ReadableStream) })) {
      const text = line.replaceAll('\0', '') // the heartbeat of a quiet build
      options.onLog(text)
      lines.push(text)
    }
  } catch (cause) {
    throw new Error(`the server closed the log early: ${(cause as Error).message}`, { cause })
  }
  return lines
}

/** Waits for the final status; prints the ones before it. */
async function lastStatus(
  { github }: Surroundings,
  earlier: ReadonlySet<RecordedStatus>,
  { sha, onStatus }: PushOptions,
): Promise<RecordedStatus> {
  const seen = new Set(earlier)
  for (;;) {
    const status = await github.waitForStatus((one) => one.sha === sha && !seen.has(one))
    if (status.state !== 'pending') return status
    seen.add(status)
    onStatus(status)
  }
}

/** The result of `work`, or an error as soon as the demo is interrupted. */
function orAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const abort = () => reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  return Promise.race([work, promise]).finally(() => signal.removeEventListener('abort', abort))
}
